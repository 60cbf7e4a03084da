"""The verbs of ``python -m nextgpt_pl``; most are typed functions whose signature is their command line."""
