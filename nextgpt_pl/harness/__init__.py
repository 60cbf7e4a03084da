"""Plugin of lmms-eval: ``lmms-eval --model nextgpt_pl --model_args run=RUN --tasks TASK``."""
