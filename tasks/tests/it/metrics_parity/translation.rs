//! BLEU and chrF against the reference tool: whole files of the benchmark folder and short lists, tokens, and the statistics file with its bootstraps.

use super::{Tally, data_text, integer, number, numbers, relative, rows, sizes, text, texts};
use serde_json::Value;
use tasks::metrics::bleu::{self, BleuStats, BleuTokenizer};
use tasks::metrics::chrf::{self, ChrfKind, ChrfStats};
use tasks::metrics::{perplexity, stderr};

/// Hypotheses, and references per segment.
fn segments(row: &Value) -> Option<(Vec<String>, Vec<Vec<String>>)> {
    let lines = |name: &str| -> Option<Vec<String>> {
        let text = data_text(name)?;
        Some(text.strip_suffix('\n').unwrap_or(&text).split('\n').map(str::to_owned).collect())
    };
    let (hypotheses, streams): (_, Vec<Vec<String>>) = if let Some(file) = row["hyp_file"].as_str() {
        let streams = texts(&row["ref_files"]).iter().map(|f| lines(f)).collect::<Option<_>>()?;
        (lines(file)?, streams)
    } else {
        (texts(&row["hyps"]), row["refs"].as_array().expect("refs").iter().map(texts).collect())
    };
    let references = (0..hypotheses.len()).map(|i| streams.iter().map(|s| s[i].clone()).collect()).collect();
    Some((hypotheses, references))
}

#[test]
fn translation_rows() {
    let mut tally = Tally::default();
    for row in rows("mt.jsonl") {
        let Some((hypotheses, references)) = segments(&row) else { continue };
        if let Some(n) = row["n"].as_u64() {
            assert_eq!(hypotheses.len() as u64, n);
        }
        let num_references = references[0].len();
        let (mut agrees, mut deviation) = (true, 0f64);
        if let Some(expected) = row.get("bleu") {
            let Some(tokenizer) = BleuTokenizer::from_name(text(expected, "tokenize")) else {
                panic!("unknown tokenizer in {expected}")
            };
            let found = bleu::corpus_bleu(tokenizer, &hypotheses, &references).unwrap();
            agrees &= bleu::signature(tokenizer, num_references) == text(expected, "signature");
            agrees &= sizes(&expected["counts"]).iter().zip(found.stats.matches).all(|(a, b)| *a as u64 == b);
            agrees &= sizes(&expected["totals"]).iter().zip(found.stats.totals).all(|(a, b)| *a as u64 == b);
            agrees &= (integer(expected, "sys_len") as u64, integer(expected, "ref_len") as u64)
                == (found.stats.hyp_len, found.stats.ref_len);
            for (found, expected) in found.precisions.into_iter().zip(numbers(&expected["precisions"])) {
                deviation = deviation.max(relative(found, expected));
            }
            deviation = deviation.max(relative(found.brevity_penalty, number(expected, "bp")));
            deviation = deviation.max(relative(found.score, number(expected, "score")));
        }
        for kind in [ChrfKind::Chrf, ChrfKind::ChrfPlusPlus] {
            if let Some(expected) = row.get(kind.metric()) {
                let found = chrf::corpus_chrf(kind, &hypotheses, &references).unwrap();
                agrees &= chrf::signature(kind, num_references) == text(expected, "signature");
                deviation = deviation.max(relative(found, number(expected, "score")));
            }
        }
        tally.row(&row, agrees, deviation);
    }
    tally.finish("mt.jsonl");
}

#[test]
fn translation_token_rows() {
    let mut tally = Tally::default();
    for row in rows("mt_tokens.jsonl") {
        let agrees = ["13a", "zh", "char"]
            .into_iter()
            .all(|name| BleuTokenizer::from_name(name).expect("known").tokenize(text(&row, "text")) == text(&row, name));
        tally.row(&row, agrees, 0.0);
    }
    tally.finish("mt_tokens.jsonl");
}

#[test]
fn statistics_rows() {
    let mut tally = Tally::default();
    for row in rows("stats.jsonl") {
        let deviation = match text(&row, "kind") {
            "mean_stderr" => {
                let found = stderr::mean_stderr(&numbers(&row["values"])).unwrap();
                relative(found.value, number(&row, "mean")).max(relative(found.stderr.unwrap(), number(&row, "stderr")))
            }
            "pooled" => {
                let found = stderr::pooled_stderr(&numbers(&row["stderrs"]), &sizes(&row["sizes"])).unwrap();
                relative(found, number(&row, "stderr"))
            }
            "aggregate" => {
                let scores = numbers(&row["scores"]);
                let found = if row["weight_by_size"] == true {
                    stderr::weighted_mean(&scores, &sizes(&row["sizes"]))
                } else {
                    stderr::unweighted_mean(&scores)
                };
                relative(found.unwrap(), number(&row, "value"))
            }
            "perplexity" => {
                let items: Vec<(f64, usize)> = row["items"]
                    .as_array()
                    .expect("items")
                    .iter()
                    .map(|item| (item[0].as_f64().expect("nats"), item[1].as_u64().expect("units") as usize))
                    .collect();
                let ppl = perplexity::weighted_perplexity(&items).unwrap();
                let bits = perplexity::bits_per_byte(&items).unwrap();
                relative(ppl, number(&row, "weighted_perplexity")).max(relative(bits, number(&row, "bits_per_byte")))
            }
            "bootstrap" => bootstrap_deviation(&row),
            other => panic!("unknown kind `{other}`"),
        };
        tally.row(&row, true, deviation);
    }
    tally.finish("stats.jsonl");
}

fn bootstrap_deviation(row: &Value) -> f64 {
    let (hypotheses, references) = (texts(&row["hyps"]), texts(&row["refs"]));
    let pairs: Vec<(&String, &String)> = hypotheses.iter().zip(&references).collect();
    let everything: Vec<usize> = (0..pairs.len()).collect();
    let iterations = integer(row, "iters");
    let (value, error) = if text(row, "metric") == "bleu" {
        let stats: Vec<BleuStats> =
            pairs.iter().map(|(h, r)| bleu::segment_stats(BleuTokenizer::V13a, h, &[r]).unwrap()).collect();
        let corpus = |indices: &[usize]| {
            let mut sum = BleuStats::default();
            for &i in indices {
                sum += stats[i];
            }
            sum.score().score
        };
        (corpus(&everything), stderr::bootstrap_stderr(stats.len(), iterations, |indices| Ok(corpus(indices))))
    } else {
        let stats: Vec<ChrfStats> = pairs.iter().map(|(h, r)| chrf::segment_stats(ChrfKind::Chrf, h, &[r]).unwrap()).collect();
        let corpus = |indices: &[usize]| {
            let mut sum = ChrfStats::default();
            for &i in indices {
                sum += stats[i];
            }
            sum.score()
        };
        (corpus(&everything), stderr::bootstrap_stderr(stats.len(), iterations, |indices| Ok(corpus(indices))))
    };
    relative(value, number(row, "value")).max(relative(error.unwrap(), number(row, "stderr")))
}
