"""Generation of replies: decoding, and early removal of finished rows from the batch."""
