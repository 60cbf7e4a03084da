"""Published benchmarks as evaluation tasks: readers of their files, and their own aggregations of judges' answers."""

from nextgpt_pl.evaluation.benchmarks.base import Benchmark
from nextgpt_pl.evaluation.benchmarks.dpg import DpgBench
from nextgpt_pl.evaluation.benchmarks.geneval import GenEval

__all__ = ["Benchmark", "DpgBench", "GenEval"]
