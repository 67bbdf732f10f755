"""Table of contents of the app: registers every function and contains no logic.

    timers          start_scheduled_cycle, clean_up_orphaned_runs, start_daily_retention,
                    run_daily_preflight
    HTTP            start_run, list_runs, get_run, list_run_blobs, cancel_run, retry_run,
                    start_cycle, get_cycle, start_backfill, get_backfill, cancel_backfill,
                    get_gaps, get_catalogue, get_status, get_openapi, health, preflight
    orchestrations  export_cycle, cycle_lane, backfill, backfill_lane, export_run,
                    export_operation, page_copy, retention
    activities      plan_exports, summarize_cycle, plan_backfill, check_backfill,
                    summarize_backfill, claim_run, check_run, start_export, check_operation,
                    plan_copy, read_page, copy_blobs, commit_version, tie_out, record_outcome,
                    prune_versions, prune_plans, purge_history, compare_invoices

The names are permanent because orchestration histories and schedules contain them. Invalid settings
stop the app before it registers any function.
"""

import azure.durable_functions as df
import azure.functions as func

from activities import (
    check_backfill,
    check_operation,
    check_run,
    claim_run,
    commit_version,
    compare_invoices,
    copy_blobs,
    plan_backfill,
    plan_copy,
    plan_exports,
    prune_plans,
    prune_versions,
    purge_history,
    read_page,
    record_outcome,
    start_export,
    summarize_backfill,
    summarize_cycle,
    tie_out,
)
from orchestrations import (
    backfill,
    export_cycle,
    export_operation,
    export_run,
    page_copy,
    retention,
)
from shared.redaction import configure_library_logging
from shared.settings import get_settings
from triggers import http_openapi, preflight_timer, schedule

get_settings()
configure_library_logging()
app = df.DFApp(http_auth_level=func.AuthLevel.FUNCTION)

for blueprint in http_openapi.BLUEPRINTS:
    app.register_functions(blueprint)
for module in (
    schedule,
    preflight_timer,
    export_cycle,
    backfill,
    export_run,
    export_operation,
    page_copy,
    retention,
    plan_exports,
    summarize_cycle,
    plan_backfill,
    check_backfill,
    summarize_backfill,
    claim_run,
    start_export,
    check_operation,
    check_run,
    plan_copy,
    read_page,
    copy_blobs,
    commit_version,
    tie_out,
    record_outcome,
    prune_versions,
    prune_plans,
    purge_history,
    compare_invoices,
):
    app.register_functions(module.bp)
