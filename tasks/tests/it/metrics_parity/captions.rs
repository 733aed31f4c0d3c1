//! CIDEr, BLEU, ROUGE-L and the tokenizer of captions: short sets, odd strings and the whole val2017 annotation file.

use super::{Tally, data_text, integer, number, numbers, parity_dir, relative, rows, text, texts};
use serde_json::Value;
use std::collections::BTreeMap;
use tasks::metrics::{cider, coco_bleu, ptb, rouge_l};

/// Images of a caption set: hypothesis and references, tokenised.
fn captions_deviation(images: &[(String, Vec<String>)], row: &Value) -> f64 {
    let hypotheses: Vec<&String> = images.iter().map(|(h, _)| h).collect();
    let references: Vec<Vec<String>> = images.iter().map(|(_, r)| r.clone()).collect();
    let cider = cider::cider(&hypotheses, &references).unwrap();
    let bleu = coco_bleu::coco_bleu(&hypotheses, &references).unwrap();
    let rouge = rouge_l::rouge_l(&hypotheses, &references).unwrap();
    let mut deviation = relative(cider.score, number(row, "cider")).max(relative(rouge.score, number(row, "rouge_l")));
    for (found, expected) in bleu.into_iter().zip(numbers(&row["bleu"])) {
        deviation = deviation.max(relative(found, expected));
    }
    for (key, found) in [("cider_per_image", &cider.per_image), ("rouge_l_per_image", &rouge.per_image)] {
        if let Some(expected) = row.get(key) {
            let expected = numbers(expected);
            assert_eq!(expected.len(), found.len());
            deviation = found.iter().zip(expected).fold(deviation, |most, (f, e)| most.max(relative(*f, e)));
        }
    }
    deviation
}

#[test]
fn caption_rows() {
    let mut tally = Tally::default();
    for row in rows("coco.jsonl") {
        let images: Vec<(String, Vec<String>)> = row["images"]
            .as_array()
            .expect("images")
            .iter()
            .map(|image| (text(image, "hypothesis").to_owned(), texts(&image["references"])))
            .collect();
        tally.row(&row, true, captions_deviation(&images, &row));
    }
    tally.finish("coco.jsonl");
}

/// Captions of the validation annotations come first in the file; strings that are no caption of it follow.
#[test]
fn ptb_rows() {
    let file = "ptb.jsonl";
    let rows = rows(file);
    let known: Option<std::collections::HashSet<String>> =
        val2017_captions().map(|captions| captions.into_iter().map(|c| c.2).collect());
    let captions: Vec<&str> = rows.iter().map(|row| text(row, "caption")).collect();
    let (raw, kept) = (ptb::tokenize_lines(&captions), ptb::caption_tokens(&captions)); // in order: lines look at the next one
    let (mut real, mut odd) = (Tally::default(), Tally::default());
    for ((row, caption), (raw, kept)) in rows.iter().zip(&captions).zip(raw.iter().zip(&kept)) {
        let agrees = raw.join(" ") == text(row, "ptb") && kept.join(" ") == text(row, "tokens");
        let is_real = known.as_ref().is_none_or(|known| known.contains(*caption));
        if is_real { &mut real } else { &mut odd }.row(row, agrees, 0.0);
    }
    odd.report("ptb.jsonl (odd strings)");
    let wrong = odd.wrong.len();
    eprintln!("{}", odd.wrong.join("\n"));
    if known.is_some() {
        real.finish("ptb.jsonl (captions)");
        assert!(wrong * 100 <= odd.rows, "{file}: {wrong} of {} odd strings differ", odd.rows);
    } else {
        real.report("ptb.jsonl (all)"); // captions and odd strings cannot be told apart
        assert!(real.wrong.len() * 100 <= real.rows, "{file}: {} of {} strings differ", real.wrong.len(), real.rows);
    }
}

/// (image id, annotation id, caption) of val2017, in file order; none without the benchmark folder.
fn val2017_captions() -> Option<Vec<(u64, u64, String)>> {
    let text = data_text("coco_caption/annotations/captions_val2017.json")?;
    let file: Value = serde_json::from_str(&text).expect("JSON");
    let annotations = file["annotations"].as_array().expect("annotations");
    Some(
        annotations
            .iter()
            .map(|a| {
                (
                    a["image_id"].as_u64().expect("id"),
                    a["id"].as_u64().expect("id"),
                    a["caption"].as_str().expect("text").to_owned(),
                )
            })
            .collect(),
    )
}

#[test]
fn whole_caption_set() {
    let file = "coco_val2017.json";
    let Ok(expected) = std::fs::read_to_string(parity_dir().join("metrics").join(file)) else {
        eprintln!("skipped: no parity file {file}");
        return;
    };
    let expected: Value = serde_json::from_str(&expected).expect("JSON");
    let Some(captions) = val2017_captions() else { return };
    let mut by_image: BTreeMap<u64, BTreeMap<u64, String>> = BTreeMap::new();
    let mut tokens = 0;
    let texts: Vec<&str> = captions.iter().map(|(.., caption)| caption.as_str()).collect();
    for ((image, annotation, _), words) in captions.iter().zip(ptb::caption_tokens(&texts)) {
        let caption = words.join(" ");
        tokens += caption.split_whitespace().count(); // the scorers also split at the no-break space of `3 1/2`
        by_image.entry(*image).or_default().insert(*annotation, caption);
    }
    assert_eq!((by_image.len(), tokens), (integer(&expected, "images"), integer(&expected, "tokens")));
    // the caption with the smallest id is scored against the others
    let images: Vec<(String, Vec<String>)> = by_image
        .into_values()
        .map(|captions| {
            let mut captions = captions.into_values();
            (captions.next().expect("a caption"), captions.collect())
        })
        .collect();
    let mut tally = Tally::default();
    tally.row(&expected, true, captions_deviation(&images, &expected));
    tally.finish(file);
}
