"""Generation of replies: decoding, rules of signal spans, caption spans, a batch that shrinks."""
