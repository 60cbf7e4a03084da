"""Galleries: media that a decoder retrieves, found by the embeddings of their captions."""

from nextgpt_pl.retrieval.build import GalleryBuilder
from nextgpt_pl.retrieval.gallery import Gallery
from nextgpt_pl.retrieval.manifest import Manifest
from nextgpt_pl.retrieval.retriever import Retrieved, Retriever

__all__ = ["Gallery", "GalleryBuilder", "Manifest", "Retrieved", "Retriever"]
