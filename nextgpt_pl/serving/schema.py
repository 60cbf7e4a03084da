"""Bodies of requests, as OpenAI's client sends them. Fields that would have no effect are refused."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SEEDS = 2**62
Seed = Annotated[int, Field(ge=0, lt=SEEDS)]
# as long as OpenAI's longest; a token has far fewer characters, so that no longer text fits into a context
Prompt = Annotated[str, Field(min_length=1, max_length=32_000)]
Kind = Literal["text", "image", "video", "audio", "speech"]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Message(_Body):
    """One message; the parts are those that :mod:`nextgpt_pl.readers.chat` reads."""

    role: Literal["system", "user", "assistant"]
    content: str | list[dict[str, Any]]
    name: str | None = None


class StreamOptions(_Body):
    """Options of a streamed reply."""

    include_usage: bool = False


class Chat(_Body):
    """Body of ``/v1/chat/completions``.

    Attributes:
        model: name of the model.
        messages: the conversation.
        modalities: what the reply contains: each of these at least once, and no other media. ``["text"]``: text alone,
            whose content is a string. ``None``: the model decides.
        max_tokens: maximum number of tokens of the reply.
        max_completion_tokens: the same.
        temperature: sampling temperature; 0 is greedy decoding.
        top_p: nucleus sampling.
        seed: of sampling and of media; ``None``: a random one.
        stream: send the reply while it is written.
        stream_options: options of a streamed reply.
        n: number of replies; only 1.
        user: name of the user; ignored.
        metadata: remarks of the client; ignored.

    """

    messages: Annotated[list[Message], Field(min_length=1, max_length=1000)]
    model: str | None = None
    modalities: list[Kind] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Seed | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Literal[1] | None = None
    user: str | None = None
    metadata: dict[str, Any] | None = None


class Generations(_Body):
    """Body of a request for media.

    Attributes:
        prompt: what the user says to the model.
        model: name of the model.
        n: number of media; each is of a reply of its own.
        seed: of the first medium, the next one has the next seed; ``None``: a random one.
        response_format: only base64.
        user: name of the user; ignored.

    """

    prompt: Prompt
    model: str | None = None
    n: Annotated[int, Field(ge=1, le=10)] | None = None
    seed: Seed | None = None
    response_format: Literal["b64_json"] | None = None
    user: str | None = None


class GeneratedFile(BaseModel):
    """A generated medium.

    Attributes:
        b64_json: its file in base64.
        revised_prompt: the caption that the model wrote for it, if it writes captions.
        origin: whether it was ``retrieved`` or ``generated``, with the distance; of decoders with a gallery.

    """

    b64_json: str
    revised_prompt: str | None = None
    origin: dict[str, Any] | None = None


class GeneratedFiles(BaseModel):
    """Response with media.

    Attributes:
        created: seconds since 1970.
        data: the media.

    """

    created: int
    data: list[GeneratedFile]


class Speech(_Body):
    """Body of a request for a sound or speech.

    Attributes:
        input: what the user says to the model.
        model: name of the model.
        voice: OpenAI's client requires it; ignored.
        response_format: of the file.
        seed: of the sound; ``None``: a random one.

    """

    input: Prompt
    model: str | None = None
    voice: str | dict[str, Any] | None = None
    response_format: Literal["wav", "flac", "mp3"] = "wav"
    seed: Seed | None = None
