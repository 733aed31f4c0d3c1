//! The README of `configs/demo/`, written with the counts of the files it describes.

use serde_json::Value;

/// Markdown page: what the files are, their licence, how to make them again.
pub(crate) fn readme(train: &str, valid: &str, samples: &[(&'static str, Vec<Value>)]) -> String {
    let rows: Vec<String> = samples.iter().map(|(task, rows)| format!("| `{task}` | {} |\n", splits(rows))).collect();
    format!(
        "# The demo world

A text, a tokenizer and sample documents written for this project, so that `eval --suite llm` works on a fresh clone without network.
They tell of one invented vale: some {} kB of notes, little stories, yes/no passages, four-option questions, scenes, sums,
translations and tiny Python functions about the same people, towns, animals and things. None of it comes from a benchmark or a corpus.

| File | What | Size |
|---|---|---|
| `text.txt` | training text, paragraphs separated by blank lines | {} bytes, {} paragraphs |
| `text-valid.txt` | validation text; a story, note or question of it is never one of `text.txt` | {} bytes, {} paragraphs |
| `tokenizer.json` | byte-level BPE of 1,000 entries trained on `text.txt`; `<|endoftext|>` is id 0, none is added when encoding | |

The sample documents are in `tasks/definitions/<task>/sample.jsonl`, in the field layout of the real task plus a `split` field. Their facts
and patterns occur in the training text, the documents themselves do not; gold labels are balanced (options uniform, BoolQ 55 % yes), so chance
means 25 % or 55 %.

| Task | Rows |
|---|---|
{}
Scores on these documents say that the pipeline works and that a tiny model has learned something. They are no benchmark scores.

## Licence
The project's own (MIT OR Apache-2.0), as everything else in the repository.

## Making them again
    cargo run -p harness --example demo_world -- --out .

The generator (`harness/examples/demo_world/`) is seeded and deterministic; a test compares its output with these files byte for byte. This
page is written by it too.
",
        train.len() / 1000,
        train.len(),
        paragraphs(train),
        valid.len(),
        paragraphs(valid),
        rows.concat()
    )
}

/// Number of pieces between blank lines.
fn paragraphs(text: &str) -> usize {
    text.trim_end().split("\n\n").count()
}

/// `8 train, 60 validation`: rows per split in file order.
fn splits(rows: &[Value]) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for row in rows {
        let split = row["split"].as_str().unwrap_or_default();
        match counts.iter_mut().find(|(name, _)| *name == split) {
            Some((_, count)) => *count += 1,
            None => counts.push((split, 1)),
        }
    }
    counts.iter().map(|(name, count)| format!("{count} {name}")).collect::<Vec<_>>().join(", ")
}
