//! `merge`: joins the shards of an evaluation into its result, or the records of runs and folders into one file, each record once.

use super::{Exit, Format, Global, output};
use crate::eval::shards::{self, SHARD_FILE, ShardFile};
use crate::provenance;
use anyhow::{Context as _, bail};
use records::store::{MANIFEST_FILE, RECORDS_FILE};
use records::{Manifest, RecordWriter, Row, read_rows};
use serde_json::json;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// Arguments of `merge`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  harness merge shard-1 shard-2 shard-3 --out merged
  harness merge runs --out all-records                      every records.jsonl below `runs`

  harness merge eval-1 eval-2 eval-3 --out eval             folders of `harness eval --shard i/3`: the result of the whole

Host, build and input columns are filled in from the manifest beside each file. Merging twice changes nothing.")]
pub struct Args {
    /// Record files, or folders searched for `records.jsonl`
    #[arg(required = true, value_name = "PATH")]
    pub inputs: Vec<PathBuf>,
    /// The folder that gets `records.jsonl`; rows it already holds are kept
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// Runs the command.
pub fn run(args: &Args, global: &Global) -> anyhow::Result<Exit> {
    let is_shard = |input: &&PathBuf| input.join(SHARD_FILE).is_file();
    match args.inputs.iter().filter(is_shard).count() {
        0 => {}
        count if count == args.inputs.len() => {
            let load = |input: &PathBuf| Ok((input.clone(), ShardFile::load(input)?));
            let whole = shards::join(args.inputs.iter().map(load).collect::<anyhow::Result<_>>()?)?;
            whole.check_build(&provenance::build())?;
            return super::eval::report(&whole.evaluation, &args.out, &whole.started_utc, whole.threads, global);
        }
        count => {
            bail!("expected shards of an evaluation or folders of records, found {count} shards among {}", args.inputs.len())
        }
    }
    let target = args.out.join(RECORDS_FILE);
    let mut files = Vec::new();
    for input in &args.inputs {
        let found = files.len();
        collect(input, &mut files)?;
        if files.len() == found {
            bail!("`{}`: expected `{RECORDS_FILE}` in or below it, found none", input.display());
        }
    }
    files.retain(|file| !is_same(file, &target));
    let mut writer = RecordWriter::in_folder(&args.out)?;
    let mut seen: HashSet<String> = read_rows(&target)?.rows.into_iter().map(|row| row.record_id).collect();
    let (kept, mut added, mut repeated) = (seen.len(), 0, 0);
    for file in &files {
        let loaded = read_rows(file)?;
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        repeated += loaded.duplicates;
        let manifest = manifest_beside(file)?;
        let mut fresh: Vec<Row> = Vec::new();
        for mut row in loaded.rows {
            // The id is kept as written: it is what makes merging idempotent, also after the manifest's columns joined.
            if row.record_id.is_empty() {
                row = row.seal();
            }
            if !seen.insert(row.record_id.clone()) {
                repeated += 1;
                continue;
            }
            if let Some(manifest) = &manifest {
                manifest.join(&mut row);
            }
            fresh.push(row);
        }
        added += fresh.len();
        writer.append(&fresh).with_context(|| format!("cannot merge `{}`", file.display()))?;
    }
    match global.format {
        Format::Json => {
            output::json(&json!({"out": target, "files": files.len(), "kept": kept, "added": added, "repeated": repeated}))?;
        }
        Format::Text => output::line(&format!(
            "{}: {added} rows added from {} files, {kept} were there, {repeated} repeated rows left out",
            target.display(),
            files.len()
        ))?,
    }
    Ok(Exit::Fine)
}

/// Record files at or below a path, in sorted order.
fn collect(path: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    if path.is_file() {
        files.push(path.to_owned());
        return Ok(());
    }
    let entries = std::fs::read_dir(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    paths.sort();
    for entry in paths {
        if entry.is_dir() {
            collect(&entry, files)?;
        } else if entry.file_name().is_some_and(|name| name == RECORDS_FILE) {
            files.push(entry);
        }
    }
    Ok(())
}

fn is_same(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

fn manifest_beside(file: &Path) -> anyhow::Result<Option<Manifest>> {
    let path = file.with_file_name(MANIFEST_FILE);
    if path.is_file() { Ok(Some(Manifest::load(&path)?)) } else { Ok(None) }
}
