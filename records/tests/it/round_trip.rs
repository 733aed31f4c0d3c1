//! Row, JSON and Measurement carry the same content, whatever the columns hold.

use proptest::prelude::*;
use records::column::{CellValue, ColumnType};
use records::{Arm, Better, COLUMNS, EvalProfile, InnerStat, Measurement, Numerics, RecordKind, Row, Source, Status, Tier};

/// Columns decided by the outcome, drawn apart so that rows stay consistent.
const OUTCOME: [&str; 8] = ["value", "inner_stat", "inner_n", "inner_cv", "raw_samples", "stderr", "stderr_clustered", "schema"];

fn word(column: &str) -> Option<Vec<&'static str>> {
    fn words<T: Copy>(all: &[T], text: fn(T) -> &'static str) -> Vec<&'static str> {
        all.iter().copied().map(text).collect()
    }
    Some(match column {
        "source" => words(Source::ALL, Source::as_str),
        "kind" => words(RecordKind::ALL, RecordKind::as_str),
        "tier" => words(Tier::ALL, Tier::as_str),
        "numerics" => words(Numerics::ALL, Numerics::as_str),
        "arm" => words(Arm::ALL, Arm::as_str),
        "better" => words(Better::ALL, Better::as_str),
        "inner_stat" => words(InnerStat::ALL, InnerStat::as_str),
        "eval_profile" => words(EvalProfile::ALL, EvalProfile::as_str),
        "status" => words(Status::ALL, Status::as_str),
        _ => return None,
    })
}

fn cell(column: &'static str, ty: ColumnType) -> BoxedStrategy<CellValue> {
    if let Some(words) = word(column) {
        return proptest::sample::select(words).prop_map(|w| CellValue::Str(w.to_owned())).boxed();
    }
    match ty {
        ColumnType::Str => "[ -~äπ\n\"\\\\]{1,12}".prop_map(CellValue::Str).boxed(),
        ColumnType::Int32 => (0..=i64::from(i32::MAX)).prop_map(CellValue::Int).boxed(),
        ColumnType::Int64 => (0..=i64::MAX).prop_map(CellValue::Int).boxed(),
        ColumnType::Float => (-1e300..1e300).prop_map(CellValue::Float).boxed(),
        ColumnType::Bool => any::<bool>().prop_map(CellValue::Bool).boxed(),
        ColumnType::FloatList => proptest::collection::vec(-1e9..1e9, 0..4).prop_map(CellValue::Floats).boxed(),
    }
}

/// A consistent row: each free column missing or drawn, then the outcome columns made to agree with the status.
fn row() -> impl Strategy<Value = Row> {
    let columns: Vec<_> = COLUMNS
        .iter()
        .filter(|column| column.name != "schema")
        .map(|column| proptest::option::of(cell(column.name, column.ty).prop_map(|value| (column.name, value))))
        .collect();
    (columns, any::<f64>().prop_filter("finite", |x| x.is_finite())).prop_map(|(cells, value)| {
        let mut row = Row::default();
        for (name, cell) in cells.into_iter().flatten() {
            row.set(name, cell).expect("the strategy draws the column's own type");
        }
        if row.status == Status::Ok {
            row.value = Some(value);
            row.reason = None;
        } else {
            for column in OUTCOME.iter().filter(|name| **name != "schema") {
                row.set(column, CellValue::Null).expect("these columns are nullable");
            }
            row.reason = Some("because".to_owned());
        }
        row
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn json_gives_the_row_back(row in row()) {
        let text = serde_json::to_string(&row).unwrap();
        prop_assert!(!text.contains('\n'), "a row is one line");
        prop_assert_eq!(serde_json::from_str::<Row>(&text).unwrap(), row);
    }

    #[test]
    fn typed_form_gives_the_row_back(row in row()) {
        let measurement = Measurement::try_from(row.clone()).unwrap();
        let back: Row = measurement.clone().into();
        prop_assert_eq!(&back, &row);
        prop_assert_eq!(Measurement::try_from(back).unwrap(), measurement);
    }

    #[test]
    fn cells_give_the_row_back(row in row()) {
        let mut back = Row::default();
        for column in COLUMNS {
            back.set(column.name, row.get(column.name).unwrap().into()).unwrap();
        }
        prop_assert_eq!(back, row);
    }

    #[test]
    fn id_survives_json(row in row()) {
        let sealed = row.seal();
        let back: Row = serde_json::from_str(&serde_json::to_string(&sealed).unwrap()).unwrap();
        prop_assert_eq!(back.content_id(), sealed.record_id);
    }
}

#[test]
fn unknown_columns_are_ignored_and_missing_ones_are_null() {
    let row: Row = serde_json::from_str(r#"{"schema":1,"metric":"acc","a_later_column":[1,2]}"#).unwrap();
    assert_eq!(row, Row { metric: "acc".into(), ..Row::default() });
}
