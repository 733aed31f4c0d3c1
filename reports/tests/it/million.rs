//! A Parquet file read column by column gives the same groups, rows and words as its JSON Lines, whatever the order and number of files.

use records::{RecordKind, RecordWriter, Row};
use reports::{Records, Study};

use crate::synthetic::{rows, sweep_rows};

fn all_rows() -> Vec<Row> {
    let mut all = rows();
    all.extend(sweep_rows());
    for (doc, cluster) in [("d1", "c1"), ("d2", "c1"), ("d3", "c2")] {
        for variant in ["plain", "rw"] {
            let like = all.iter().find(|row| row.variant.as_deref() == Some(variant) && row.task.is_some()).unwrap().clone();
            all.push(Row {
                kind: RecordKind::Document,
                seed: Some(7),
                doc_id: Some(doc.into()),
                cluster_id: Some(cluster.into()),
                value: Some(if doc == "d1" { 1.0 } else { 0.0 }),
                record_id: String::new(),
                ..like
            });
        }
    }
    all
}

/// Every group with its rows and its words, in order.
fn shown(study: &Study) -> Vec<String> {
    study
        .groups()
        .map(|group| {
            let text = |word: Option<reports::study::Word>| word.map(|word| study.text(word));
            let words: Vec<_> = group.rows.iter().map(|row| (text(row.doc), text(row.cluster))).collect();
            format!("{:?} {:?} {words:?}", group.shared, group.rows)
        })
        .collect()
}

#[test]
fn columns_and_lines_give_the_same_study() {
    let folder = tempfile::tempdir().unwrap();
    let lines = folder.path().join("lines");
    RecordWriter::in_folder(&lines).unwrap().append(&all_rows()).unwrap();
    let columns = folder.path().join("records.parquet");
    Records::load(std::slice::from_ref(&lines)).unwrap().compact(&columns).unwrap();
    let (from_lines, from_columns) =
        (Study::load(std::slice::from_ref(&lines)).unwrap(), Study::load(std::slice::from_ref(&columns)).unwrap());
    assert_eq!(from_lines.len(), from_columns.len());
    assert_eq!(shown(&from_lines), shown(&from_columns));
    // Side by side every record counts once.
    let both = Study::load(&[columns, lines]).unwrap();
    assert_eq!(both.len(), from_lines.len());
    assert_eq!(shown(&both), shown(&from_lines));
}

#[test]
fn a_column_file_of_a_newer_schema_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.parquet");
    let newer = all_rows().into_iter().map(|row| Row { schema: records::SCHEMA + 1, ..row }).collect();
    Records::new(newer).compact(&path).unwrap();
    let message = Study::load(&[path]).unwrap_err().to_string();
    assert!(message.contains("schema"), "{message}");
}
