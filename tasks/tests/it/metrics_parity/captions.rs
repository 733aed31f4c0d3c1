//! CIDEr, BLEU and ROUGE-L of short caption sets.

use super::{Tally, number, numbers, relative, rows, text, texts};
use serde_json::Value;
use tasks::metrics::{cider, coco_bleu, rouge_l};

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
