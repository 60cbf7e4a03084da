"""Generation of replies: decoding, and a batch that shrinks."""
