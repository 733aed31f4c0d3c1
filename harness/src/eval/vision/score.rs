//! Logits of a picture to its metrics.
//!
//! ```text
//! rank = classes with a larger logit + classes with an equal one and a lower index       ties in favour of the lower index
//! acc1 = rank < 1     acc5 = rank < 5     cross_entropy = ln Σ exp(logit) − logit of the label, f64
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use tasks::metrics::stderr::mean_stderr;
use tasks::{Aggregate, DocScores, MetricValue};

use crate::eval::score::log_sum_exp;

/// What one picture scored.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// The best classes, at most five.
    pub top: Vec<u32>,
    /// Larger logits than the label's.
    pub rank: usize,
    /// Nats.
    pub cross_entropy: f64,
}

/// Scores one picture.
///
/// # Errors
/// A logit that is no finite number.
pub fn score(logits: &[f32], label: u32) -> anyhow::Result<Score> {
    if let Some(at) = logits.iter().position(|logit| !logit.is_finite()) {
        bail!("expected finite logits, found {} for class {at}", logits[at]);
    }
    let own = *logits.get(label as usize).ok_or_else(|| anyhow!("expected a label below {}, found {label}", logits.len()))?;
    let is_before = |(class, &logit): (usize, &f32)| logit > own || (logit == own && class < label as usize);
    let rank = logits.iter().enumerate().filter(|&pair| is_before(pair)).count();
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    order.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b)));
    order.truncate(5);
    Ok(Score { top: order, rank, cross_entropy: log_sum_exp(logits).0 - f64::from(own) })
}

impl Score {
    /// The metrics of a picture; `acc1_real` only where reassessed labels are given and not empty.
    pub fn metrics(&self, real: Option<&[u32]>) -> BTreeMap<String, MetricValue> {
        let share = |is_right: bool| MetricValue::Number(f64::from(u8::from(is_right)));
        let mut metrics = BTreeMap::from([
            ("acc1".to_owned(), share(self.rank < 1)),
            ("acc5".to_owned(), share(self.rank < 5)),
            ("cross_entropy".to_owned(), MetricValue::Number(self.cross_entropy)),
        ]);
        if let Some(real) = real.filter(|labels| !labels.is_empty()) {
            metrics.insert("acc1_real".to_owned(), share(self.top.first().is_some_and(|best| real.contains(best))));
        }
        metrics
    }
}

/// Means over pictures with their standard errors, each over the pictures that have the metric.
///
/// # Errors
/// A value that is not finite.
pub fn aggregate(scores: &[DocScores]) -> anyhow::Result<Vec<Aggregate>> {
    let mut aggregates = Vec::new();
    for (metric, higher_is_better) in [("acc1", true), ("acc5", true), ("cross_entropy", false), ("acc1_real", true)] {
        let values: Vec<f64> = scores.iter().filter_map(|scores| scores.metrics.get(metric)?.number()).collect();
        if values.is_empty() {
            continue;
        }
        let estimate = mean_stderr(&values).with_context(|| format!("metric `{metric}`"))?;
        aggregates.push(Aggregate {
            metric: metric.to_owned(),
            value: estimate.value,
            stderr: estimate.stderr,
            stderr_clustered: None,
            n: values.len(),
            higher_is_better,
        });
    }
    Ok(aggregates)
}

/// Reassessed labels of the 50,000 ImageNet validation pictures: for each the classes it shows, possibly none (Beyer et al. 2020).
#[derive(Debug)]
pub struct RealLabels(Vec<Vec<u32>>);

impl RealLabels {
    /// Reads the published file, a list of lists in order of the pictures' numbers.
    ///
    /// # Errors
    /// When the file is something else.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let reading = || format!("cannot read the reassessed labels `{}`", path.display());
        let text = std::fs::read_to_string(path).with_context(reading)?;
        Ok(Self(serde_json::from_str(&text).with_context(reading)?))
    }

    /// Labels of a picture by its name, which holds its number: `…/ILSVRC2012_val_00000293.JPEG`.
    ///
    /// # Errors
    /// When the name has no number, or one beyond the list.
    pub fn of(&self, id: &str) -> anyhow::Result<&[u32]> {
        let number =
            id.split("ILSVRC2012_val_").nth(1).map(|rest| rest.chars().take_while(char::is_ascii_digit).collect::<String>());
        let labels = number.and_then(|digits| self.0.get(digits.parse::<usize>().ok()?.checked_sub(1)?));
        labels
            .map(Vec::as_slice)
            .ok_or_else(|| anyhow!("expected the name of an ImageNet validation picture (ILSVRC2012_val_00000001), found `{id}`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_to_the_lower_index() {
        let logits = [1.0, 3.0, 3.0, 2.0];
        assert_eq!(score(&logits, 1).unwrap().rank, 0);
        assert_eq!(score(&logits, 2).unwrap().rank, 1);
        assert_eq!(score(&logits, 0).unwrap().rank, 3);
        assert_eq!(score(&logits, 2).unwrap().top, [1, 2, 3, 0]);
        assert_eq!(score(&[0.0; 7], 5).unwrap().rank, 5);
        assert_eq!(score(&[0.0; 7], 5).unwrap().metrics(None)["acc5"], MetricValue::Number(0.0));
    }

    #[test]
    fn cross_entropy_is_that_of_the_softmax_and_stays_finite() {
        // Two equal logits: ln 2; far above the range of exp too.
        assert!((score(&[1000.0, 1000.0], 0).unwrap().cross_entropy - std::f64::consts::LN_2).abs() < 1e-12);
        // softmax(0, ln 3) = 1/4, 3/4
        assert!((score(&[0.0, 3f32.ln()], 0).unwrap().cross_entropy - 4f64.ln()).abs() < 1e-6);
        assert!(score(&[f32::NAN, 0.0], 1).unwrap_err().to_string().contains("class 0"));
        assert!(score(&[0.0], 1).is_err());
    }

    #[test]
    fn reassessed_labels_leave_out_pictures_without_any() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("real.json");
        std::fs::write(&path, "[[1, 2], [], [0]]").unwrap();
        let real = RealLabels::read(&path).unwrap();
        assert_eq!(real.of("n01/ILSVRC2012_val_00000001.JPEG").unwrap(), [1, 2]);
        assert!(real.of("ILSVRC2012_val_00000002_x.JPEG").unwrap().is_empty());
        assert!(real.of("a/1.png").is_err() && real.of("ILSVRC2012_val_00000004.JPEG").is_err());
        let right = score(&[0.0, 1.0, 0.5], 0).unwrap();
        assert_eq!(right.metrics(Some(&[1, 2]))["acc1_real"], MetricValue::Number(1.0));
        assert!(!right.metrics(Some(&[])).contains_key("acc1_real"));
    }

    #[test]
    fn aggregates_are_means_with_errors_over_the_pictures_that_have_the_metric() {
        let doc = |doc_id, logits: &[f32], real: Option<&[u32]>| DocScores {
            is_unparsed: false,
            doc_id,
            metrics: score(logits, 0).unwrap().metrics(real),
            answers: BTreeMap::new(),
            gold: None,
            chosen: None,
            verdict: None,
            cluster_id: None,
        };
        let scores = [doc(0, &[1.0, 0.0], Some(&[0])), doc(1, &[0.0, 1.0], Some(&[])), doc(2, &[1.0, 0.0], None)];
        let aggregates = aggregate(&scores).unwrap();
        assert_eq!(
            aggregates.iter().map(|a| (a.metric.as_str(), a.n)).collect::<Vec<_>>(),
            [("acc1", 3), ("acc5", 3), ("cross_entropy", 3), ("acc1_real", 1)]
        );
        // values 1, 0, 1: mean 2/3, squares of deviations 2/3, error sqrt((2/3) / (3·2)) = 1/3
        assert!((aggregates[0].value - 2.0 / 3.0).abs() < 1e-12 && (aggregates[0].stderr.unwrap() - 1.0 / 3.0).abs() < 1e-12);
    }
}
