//! `repair`.

use std::process::ExitCode;

use p2p_taskqueue::store::{RepairReport, SqliteStore};
use serde_json::json;

use crate::{data_dir::DataDir, failure::Failure, foreign::Foreign, output::Output};

pub(super) fn run(data_dir: &DataDir, output: Output) -> Result<ExitCode, Failure> {
    // Held to the end, so that no node opens the store meanwhile.
    let _locked = data_dir.lock()?;
    let path = data_dir.store();
    if !path.exists() {
        return Err(Failure::argument("--data-dir", format_args!("there is no store at {}", path.display())));
    }
    let report = SqliteStore::repair(&path).map_err(anyhow::Error::from)?;
    let document = json!({
        "ok": true, "tasks": report.tasks, "lost": report.lost, "lost_count": report.lost_count,
        "remarks": report.remarks, "missing_commits": report.missing_commits, "kept_at": report.kept_at,
    });
    output.document(&document, || text(&report));
    Ok(ExitCode::SUCCESS)
}

fn text(report: &RepairReport) -> String {
    let mut rows = vec![format!("{} tasks are intact and kept", report.tasks)];
    if report.missing_commits > 0 {
        rows.push(format!("the last {} changes are missing: they had been acknowledged", report.missing_commits));
    }
    if report.lost_count > 0 {
        rows.push(format!("{} tasks are lost:", report.lost_count));
        rows.extend(report.lost.iter().map(|task| format!("  {task}")));
    }
    rows.extend(report.remarks.iter().map(|remark| Foreign(remark).to_string()));
    rows.push(format!("the old store is kept at {}: remove it when nothing in it is needed", report.kept_at.display()));
    rows.join("\n")
}
