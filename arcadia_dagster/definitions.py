"""The one Definitions object: everything that `defs/` defines, run in one process."""

import gc
import warnings

import dagster as dg


@dg.definitions
def defs() -> dg.Definitions:
    """All assets, checks, jobs, schedules, sensors and resources.

    Steps run in the process of their run: the default executor would start an interpreter for each, which costs more than the steps do.
    Not by `load_from_defs_folder`: every run would wait until it has described each type of component there is to the UI.
    """
    gc.disable()  # all this stays, and what Dagster imported: to look through it for garbage takes a tenth of a second each time
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", dg.BetaWarning)
            warnings.simplefilter("ignore", dg.PreviewWarning)
            from arcadia_dagster import defs as package
            from arcadia_dagster.defs.resources import RESOURCES

            return dg.load_definitions_from_package_module(package, resources=RESOURCES, executor=dg.in_process_executor)
    finally:
        gc.freeze()
        gc.enable()
