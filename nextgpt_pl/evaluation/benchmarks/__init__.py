"""Published benchmarks as evaluation tasks: readers of their files, and their own aggregations of judges' answers."""

from nextgpt_pl.evaluation.benchmarks.base import Benchmark
from nextgpt_pl.evaluation.benchmarks.dpg import DpgBench
from nextgpt_pl.evaluation.benchmarks.edits import GEditBench, ImgEdit
from nextgpt_pl.evaluation.benchmarks.geneval import GenEval
from nextgpt_pl.evaluation.benchmarks.interleaved import Mmie, UEval
from nextgpt_pl.evaluation.benchmarks.wise import Wise

__all__ = ["Benchmark", "DpgBench", "GEditBench", "GenEval", "ImgEdit", "Mmie", "UEval", "Wise"]
