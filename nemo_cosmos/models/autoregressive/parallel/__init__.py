"""How the tokens and the vocabulary are spread over ranks."""
