"""Virtual time: workloads, and a simulator that runs the live graph's routers and engines over thousands of workers."""

from dynlab.engine import MockEngineArgs
from dynlab.simulate.changes import Kill, Revive, Slow
from dynlab.simulate.chats import chats
from dynlab.simulate.run import Outcome, Run
from dynlab.simulate.service import constant, exponential, giants, heavy_tailed
from dynlab.simulate.simulator import simulate
from dynlab.simulate.trace_formats import azure, mooncake, save_mooncake
from dynlab.simulate.workload import Workload, bursty, poisson, prefix_families

__all__ = (
    "Kill",
    "MockEngineArgs",
    "Outcome",
    "Revive",
    "Run",
    "Slow",
    "Workload",
    "azure",
    "bursty",
    "chats",
    "constant",
    "exponential",
    "giants",
    "heavy_tailed",
    "mooncake",
    "poisson",
    "prefix_families",
    "save_mooncake",
    "simulate",
)
