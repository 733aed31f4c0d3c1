//! The arithmetic lint prints exactly the notes of measurement.md section 13.

use reports::Paper;
use reports::lint::{lint, notes_for};

#[test]
fn lint_prints_exactly_the_listed_notes() {
    let notes: Vec<String> = lint(&Paper::load().unwrap())
        .unwrap()
        .into_iter()
        .map(|n| format!("{} | {} | {}", n.place, n.stated, n.recomputed))
        .collect();
    let expected = [
        "T1 extra layer | 4.37 % | one identity bottleneck 1024-256-1024 has 1 117 184 params = 4.371 % of 25 557 032: agrees, and tells which block was added",
        "T1 RW | 0.003 % | two scalars in 16 blocks are 32 params = 0.00013 %; 0.003 % would be about 767: not explained by the text",
        "T1 RW+LR, r = 16 | 1.68 % | 2·16·ΣD over the 16 block outputs is 483 328 = 1.89 %; over the 12 identity blocks 360 448 = 1.41 %; with input widths 419 840 = 1.64 %: placement not explained by the text",
        "T2 MMLU | +0.06 % | +0.66 % relative, +0.17 points",
        "T2 HellaSwag | +0.03 % | +0.34 % relative, +0.22 points",
        "T2 HumanEval | +3.33 % | 30 → 31 of 164 problems: one problem; SE of one score 3.0 points",
        "T2 TyDi QA, T3 MGSM in an earlier revision | +6.07 % both | +6.77 %, +15.45 % (v4 has 6.76 and 15.45)",
        "T5 LR | +1.20 M | 2·32·768·24 = 1.18 M: agrees if D = 768",
        "T5 PA; RW+LR+PA | +0.02 M; +3.63 M | k scalars per layer would be 72 params, 24·768 = 18 432 would fit; 2rkDN = 3.54 M leaves 0.09 M open",
        "T6 LAuReL-40 | +4 M with r = 64 | 2rDN with the D implied by 160 M per layer (12D²) gives about 19 M: not explained",
        "T6 Baseline-40 | 4.400 B | 40 layers of 160 M are 6.4 B: not explained",
        "T6 | — | step time of LAuReL-40 is above that of the extra layer: on this axis alone naive scaling wins",
        "T7 MATH | +6.48 % | +6.41 %",
    ];
    assert_eq!(notes, expected);
}

#[test]
fn a_note_on_two_tables_stands_under_both() {
    let notes = lint(&Paper::load().unwrap()).unwrap();
    assert_eq!(notes_for(&notes, "table3").len(), 1);
    assert_eq!(notes_for(&notes, "table2").len(), 4);
    assert_eq!(notes_for(&notes, "table7").len(), 1);
}
