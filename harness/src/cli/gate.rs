//! `gate`: judge a candidate against rules; accept new baselines; explain a rule.
//!
//! ```text
//! check     exact and near-exact probes once ─┐
//!           scores of the suite at fixed seeds ├─> records ─> reports::gate::judge ─> verdicts, exit code 0 | 1
//!           noisy rules: pairs 10, 20, 40 …   ─┘      └── an open rule asks for more pairs, a failing one for fresh pairs
//! accept    the same records become the stored baseline, with the reason
//! ```

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use records::{Row, write_atomic};
use reports::Records;
use reports::gate::{self, GateInput, GateReport, GateRules, Rule, RuleKind};

use super::{Exit, Format, Global, eval, output};
use crate::config::{RunConfig, SuiteConfig};
use crate::error::Hint as _;
use crate::measure::parent::{MeasureOptions, measure};
use crate::measure::plan::{Plan, SubjectSpec};
use crate::measure::probes::{self, Kind, Probe};
use crate::measure::subject::Workload;
use crate::provenance;

/// Baseline file that `accept` writes.
const BASELINE_FILE: &str = "records-exact.jsonl";

/// Pairs before the first look at a noisy rule: fewer are shown, not judged.
const FIRST_LOOK: usize = 10;

/// Arguments of `gate`.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  harness gate                                      measure the smoke subjects and judge them by ci/gate.toml
  harness gate --candidate runs/_gate               judge records that are there
  harness gate --rules ci/gate-time.toml --reference-program base/harness    step times of this build against another one's
  harness gate accept --reason \"wider MLP, see log\"  the values of now become the stored baseline
  harness gate explain \"rw+lr step time\"            what a rule compares and what to do about its verdict

Times are never compared with a stored baseline: both arms of a noisy rule are measured now, interleaved. Exit code 1 on a failed, missing
or not comparable rule, and with --strict on an undecided one."
)]
pub struct Args {
    /// What to do; `check` when absent
    #[command(subcommand)]
    pub action: Option<Action>,
    /// Arguments of `check`
    #[command(flatten)]
    pub check: CheckArgs,
}

/// What `gate` does.
#[derive(Debug, clap::Subcommand)]
pub enum Action {
    /// Judge (the default)
    Check(CheckArgs),
    /// Store the candidate's exact values as the baseline
    Accept(AcceptArgs),
    /// Say in words what a rule compares
    Explain(ExplainArgs),
}

/// Which rules and which records.
#[derive(Debug, Clone, clap::Args)]
pub struct InputArgs {
    /// Rule file
    #[arg(long, value_name = "FILE", default_value = "ci/gate.toml")]
    pub rules: PathBuf,
    /// Stored baseline: a folder or file of records
    #[arg(long, value_name = "PATH", default_value = "ci/baselines")]
    pub baseline: PathBuf,
    /// Records to judge instead of measuring now; may be repeated
    #[arg(long, value_name = "PATH")]
    pub candidate: Vec<PathBuf>,
    /// Suite whose subjects are measured and scored
    #[arg(long, value_name = "SUITE", default_value = "smoke")]
    pub suite: String,
    /// Where records and verdicts go; default: `_gate` below the runs directory
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// Arguments of `check`.
#[derive(Debug, Clone, clap::Args)]
pub struct CheckArgs {
    /// Rules and records
    #[command(flatten)]
    pub inputs: InputArgs,
    /// Undecided rules count against the candidate
    #[arg(long)]
    pub strict: bool,
    /// Stop asking for more pairs after this long
    #[arg(long, value_name = "SECONDS", default_value_t = 900.0)]
    pub time_budget_s: f64,
    /// Another build of this program, such as the merge base's: side A of the noisy rules, on the same subjects
    #[arg(long, value_name = "FILE", conflicts_with = "candidate")]
    pub reference_program: Option<PathBuf>,
    /// Time even in a build with debug assertions
    #[arg(long)]
    pub allow_debug_assertions: bool,
}

/// Arguments of `accept`.
#[derive(Debug, clap::Args)]
pub struct AcceptArgs {
    /// Why the new values are right; stored with them
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Rules and records
    #[command(flatten)]
    pub inputs: InputArgs,
}

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
pub struct ExplainArgs {
    /// Rule name; every rule when absent
    pub rule: Option<String>,
    /// Rule file
    #[arg(long, value_name = "FILE", default_value = "ci/gate.toml")]
    pub rules: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// An unreadable rule file or record, a subject that cannot be measured, a full disk.
pub fn run(args: &Args, global: &Global) -> anyhow::Result<Exit> {
    match &args.action {
        None => check(&args.check, global),
        Some(Action::Check(check_args)) => check(check_args, global),
        Some(Action::Accept(accept_args)) => accept(accept_args, global),
        Some(Action::Explain(explain_args)) => explain(explain_args),
    }
}

fn check(args: &CheckArgs, global: &Global) -> anyhow::Result<Exit> {
    let rules = read_rules(&args.inputs.rules)?;
    let baseline = load_baseline(&args.inputs.baseline)?;
    let out = out_folder(&args.inputs, global);
    let report = if args.inputs.candidate.is_empty() {
        measure_and_judge(args, global, &rules, &baseline, &out)?
    } else {
        judge(args, &rules, &Records::load(&args.inputs.candidate)?, &baseline)?
    };
    write_outputs(&report, &args.inputs.rules, &out)?;
    match global.format {
        Format::Json => output::data(&gate::json(&report))?,
        Format::Text => output::data(&gate::text(&report))?,
    }
    output::note(&format!("verdicts: {}", out.join("gate.{json,md,xml,sarif,annotations}").display()));
    Ok(if report.exit_code == 0 { Exit::Fine } else { Exit::Against })
}

fn accept(args: &AcceptArgs, global: &Global) -> anyhow::Result<Exit> {
    if args.reason.trim().is_empty() {
        return Err(anyhow!("--reason: expected why the new values are right, found nothing"));
    }
    let rules = read_rules(&args.inputs.rules)?;
    let baseline = load_baseline(&args.inputs.baseline)?;
    let candidate = if args.inputs.candidate.is_empty() {
        let subjects = subjects(&args.inputs.suite, global)?;
        let out = out_folder(&args.inputs, global);
        Records::load(&measure_stored(&args.inputs, global, &rules, &subjects, &out)?)?
    } else {
        Records::load(&args.inputs.candidate)?
    };
    let accepted = gate::accept(&rules, &candidate, &baseline, &args.reason);
    let path = if args.inputs.baseline.extension().is_some() {
        args.inputs.baseline.clone()
    } else {
        args.inputs.baseline.join(BASELINE_FILE)
    };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
    }
    let mut lines = Vec::new();
    for row in &accepted.rows {
        serde_json::to_writer(&mut lines, row)?;
        lines.push(b'\n');
    }
    write_atomic(&path, &lines)?;
    for line in &accepted.diff {
        output::line(line)?;
    }
    output::note(&format!("{} of {} values changed; baseline: {}", accepted.diff.len(), accepted.rows.len(), path.display()));
    Ok(Exit::Fine)
}

fn explain(args: &ExplainArgs) -> anyhow::Result<Exit> {
    let rules = read_rules(&args.rules)?;
    let chosen: Vec<_> = rules.rules.iter().filter(|rule| args.rule.as_ref().is_none_or(|name| *name == rule.name)).collect();
    if chosen.is_empty() {
        let names: Vec<&str> = rules.rules.iter().map(|rule| rule.name.as_str()).collect();
        bail!("no such rule in `{}`: expected one of {}", args.rules.display(), names.join(", "));
    }
    output::data(&chosen.into_iter().map(gate::explain).collect::<Vec<_>>().join("\n"))?;
    Ok(Exit::Fine)
}

fn read_rules(path: &Path) -> anyhow::Result<GateRules> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read rule file `{}`", path.display()))
        .hint("name one with --rules; `ci/gate.toml` of the project is an example")?;
    Ok(GateRules::parse(&text, &path.display().to_string())?)
}

/// No baseline yet is no error: its rules are then `missing`, which the verdicts say.
fn load_baseline(path: &Path) -> anyhow::Result<Records> {
    let has_records = path.is_file() || path.read_dir().is_ok_and(|mut entries| entries.next().is_some());
    if has_records { Ok(Records::load(&[path.to_owned()])?) } else { Ok(Records::default()) }
}

fn out_folder(args: &InputArgs, global: &Global) -> PathBuf {
    args.out.clone().unwrap_or_else(|| global.runs_dir.join("_gate"))
}

fn judge(args: &CheckArgs, rules: &GateRules, candidate: &Records, baseline: &Records) -> anyhow::Result<GateReport> {
    let command = provenance::command().join(" ");
    let today = &provenance::utc_now()[..10];
    Ok(gate::judge(rules, GateInput { candidate, baseline, today, is_strict: args.strict, command: &command })?)
}

/// The suite's subjects at its first seed, in the numerics asked for; the first is the reference.
fn subjects(suite: &str, global: &Global) -> anyhow::Result<Vec<SubjectSpec>> {
    let suite: SuiteConfig = eval::load_suite(suite)?;
    let seed = suite.seeds.first().copied();
    let sets: Vec<String> = global.numerics_set().into_iter().collect();
    let load = |name: &String| Ok(SubjectSpec::from(RunConfig::load(&suite.subject_config(name), &sets, seed)?));
    suite.subjects.iter().map(load).collect()
}

/// Probes that some rule of these kinds needs.
fn probes_for(rules: &GateRules, wanted: &[Kind]) -> Vec<&'static dyn Probe> {
    let needed = |probe: &&'static dyn Probe| {
        wanted.contains(&probe.kind())
            && rules.rules.iter().any(|rule| probes::for_metric(&rule.metric).is_some_and(|found| found.name() == probe.name()))
    };
    probes::probes().into_iter().filter(needed).collect()
}

/// What a stored baseline is compared with: counts, allocations at one thread, scores at fixed seeds. Returns the folders of the records.
fn measure_stored(
    args: &InputArgs,
    global: &Global,
    rules: &GateRules,
    subjects: &[SubjectSpec],
    out: &Path,
) -> anyhow::Result<Vec<PathBuf>> {
    let is_score = |metric: &str| probes::for_metric(metric).is_none();
    let needs_scores = rules.rules.iter().any(|rule| is_score(&rule.metric));
    if needs_scores {
        global.check_scores_are_f32()?;
    }
    let mut folders = Vec::new();
    let exact = probes_for(rules, &[Kind::Exact]);
    if !exact.is_empty() {
        let folder = out.join("exact");
        let plan = Plan::new(subjects.to_vec(), exact, Workload::default(), 0);
        measure(&plan, &MeasureOptions { fresh: true, ..options(args, global, folder.clone(), global.thread_count()) })?;
        folders.push(folder);
    }
    let memory = probes_for(rules, &[Kind::Memory]);
    if !memory.is_empty() {
        let folder = out.join("memory");
        let plan = Plan { memory_rounds: 1, ..Plan::new(subjects.to_vec(), memory, Workload::default(), 1) };
        measure(&plan, &MeasureOptions { fresh: true, ..options(args, global, folder.clone(), 1) })?;
        folders.push(folder);
    }
    if needs_scores {
        let folder = out.join("scores");
        eval::evaluate_suite(&args.suite, &folder, global)?;
        folders.push(folder);
    }
    Ok(folders)
}

/// The suite's name, also where a file was given.
fn suite_name(args: &InputArgs) -> String {
    Path::new(&args.suite).file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn options(args: &InputArgs, global: &Global, out: PathBuf, threads: usize) -> MeasureOptions {
    MeasureOptions {
        suite: format!("gate-{}", suite_name(args)),
        worker_flags: global.worker_flags(),
        ..MeasureOptions::new(out, threads)
    }
}

/// Subjects that are timed side by side, the first being side A.
struct Timed {
    subjects: Vec<SubjectSpec>,
    probes: Vec<&'static dyn Probe>,
    options: MeasureOptions,
}

/// What has to be timed for the rules: the suite's subjects against its first one, or each subject of this build against itself in the
/// reference program. Nothing when no rule needs a clock.
fn timed(
    args: &CheckArgs,
    global: &Global,
    rules: &GateRules,
    subjects: &[SubjectSpec],
    out: &Path,
) -> anyhow::Result<Vec<Timed>> {
    let needed_by = |kinds: &[RuleKind]| {
        let is_noisy = |probe: &&'static dyn Probe| {
            let of_probe = |metric: &str| probes::for_metric(metric).is_some_and(|found| found.name() == probe.name());
            rules.rules.iter().any(|rule| kinds.contains(&rule.kind) && of_probe(&rule.metric))
        };
        probes_for(rules, &[Kind::Timing]).into_iter().filter(is_noisy).collect::<Vec<_>>()
    };
    let timing = |suite: String, folder: PathBuf| {
        let options = options(&args.inputs, global, folder, global.thread_count());
        MeasureOptions { suite, allow_debug_assertions: args.allow_debug_assertions, ..options }
    };
    let Some(program) = &args.reference_program else {
        let probes = needed_by(&[RuleKind::Noisy, RuleKind::Budget]);
        let options = timing(format!("gate-{}", suite_name(&args.inputs)), out.join("pairs"));
        return Ok(if probes.is_empty() { Vec::new() } else { vec![Timed { subjects: subjects.to_vec(), probes, options }] });
    };
    if !program.is_file() {
        bail!("--reference-program: expected a program, found none at `{}`", program.display());
    }
    if !needed_by(&[RuleKind::Budget]).is_empty() {
        return Err(anyhow!(
            "--reference-program: expected no timed budget rule in `{}`, found one",
            args.inputs.rules.display()
        ))
        .hint(
            "a budget compares variants of one build: keep such rules in a file of their own, judged without a reference program",
        );
    }
    let probes = needed_by(&[RuleKind::Noisy]);
    if probes.is_empty() {
        return Err(anyhow!("--reference-program: expected a timed noisy rule in `{}`, found none", args.inputs.rules.display()))
            .hint("only times are compared with another build; `ci/gate-time.toml` of the project has such a rule");
    }
    let is_judged =
        |subject: &&SubjectSpec| rules.rules.iter().any(|rule| rule.kind == RuleKind::Noisy && is_about(rule, subject));
    let each = subjects.iter().filter(is_judged).map(|subject| {
        let reference = SubjectSpec { program: Some(program.clone()), ..subject.clone() };
        // A suite, and so a run, of its own per subject: pairs of two subjects never mix.
        let options =
            timing(format!("gate-revision-{}", subject.config.name()), out.join("revision").join(subject.config.name()));
        Timed { subjects: vec![reference, subject.clone()], probes: probes.clone(), options }
    });
    Ok(each.collect())
}

/// Whether a rule's filter takes the subject, whatever it says about other columns.
fn is_about(rule: &Rule, subject: &SubjectSpec) -> bool {
    let row = Row {
        metric: rule.metric.clone(),
        subject: Some(subject.config.name().to_owned()),
        variant: Some(subject.config.variant()),
        ..Row::default()
    };
    let others: Vec<&str> =
        rule.filter.keys().map(String::as_str).filter(|column| !matches!(*column, "subject" | "variant")).collect();
    rule.selects(&row, &others)
}

/// Measures, judges, and measures more pairs until every noisy rule is decided or the time is over.
fn measure_and_judge(
    args: &CheckArgs,
    global: &Global,
    rules: &GateRules,
    baseline: &Records,
    out: &Path,
) -> anyhow::Result<GateReport> {
    let started = Instant::now();
    let subjects = subjects(&args.inputs.suite, global)?;
    let timed = timed(args, global, rules, &subjects, out)?;
    // Of this run only: the folder may hold what an earlier one measured for other rules or another reference.
    let mut folders = measure_stored(&args.inputs, global, rules, &subjects, out)?;
    folders.extend(timed.iter().map(|timed| timed.options.out.clone()));
    let (mut main_pairs, mut confirmation_pairs) = (0u32, 0u32);
    let mut wanted = if timed.is_empty() { (0, 0) } else { (FIRST_LOOK, 0) };
    loop {
        let batches = [(wanted.0 as u32, &mut main_pairs, 0), (wanted.1 as u32, &mut confirmation_pairs, 1)];
        for (count, done, trial) in batches {
            if count == 0 {
                continue;
            }
            for Timed { subjects, probes, options } in &timed {
                let plan = Plan {
                    pairs: *done..*done + count,
                    with_aa: trial == 0,
                    trial,
                    ..Plan::new(subjects.clone(), probes.clone(), Workload::default(), 0)
                };
                measure(&plan, &MeasureOptions { fresh: trial == 0 && *done == 0, ..options.clone() })?;
            }
            *done += count;
        }
        let report = judge(args, rules, &Records::load(&folders)?, baseline)?;
        wanted = if timed.is_empty() { (0, 0) } else { report.wanted_pairs() };
        let is_over = started.elapsed() > Duration::from_secs_f64(args.time_budget_s);
        if wanted == (0, 0) || is_over {
            return Ok(report);
        }
    }
}

fn write_outputs(report: &GateReport, rules: &Path, out: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(out).with_context(|| format!("cannot create `{}`", out.display()))?;
    let files = [
        ("gate.json", gate::json(report)),
        ("gate.md", gate::markdown(report)),
        ("gate.xml", gate::junit(report)),
        ("gate.sarif", gate::sarif(report, &rules.display().to_string())),
        ("gate.annotations", gate::annotations(report)),
    ];
    for (name, text) in files {
        write_atomic(&out.join(name), text.as_bytes())?;
    }
    Ok(())
}
