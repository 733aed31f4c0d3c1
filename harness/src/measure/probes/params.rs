//! Parameters: counted on the built network, and in closed form; the two must be equal.
//!
//! ```text
//! params_total           elements of distinct variables (a tied table once)        = Model::num_params
//! params_laurel          those below a module named `residual`                     = params_closed_form
//! params_added           params_total − params_total(reference)
//! ```
//! A full-size model is counted without needing its memory. Running statistics of batch norms are `params_buffers`.
//!
//! Source: measurement.md section 3.

use super::{Kind, Probe, Work};
use crate::measure::subject::Subject;
use crate::measure::window::WindowSpec;
use models::ParamStore;
use records::metric::{
    PARAMS_ACTIVE, PARAMS_ADDED, PARAMS_ADDED_PCT, PARAMS_BUFFERS, PARAMS_CLOSED_FORM, PARAMS_EMBEDDING, PARAMS_LAUREL,
    PARAMS_NON_EMBEDDING, PARAMS_TOTAL, WEIGHTS_BYTES,
};
use records::{Measurement, Metric, Outcome, Reason};

/// The probe.
#[derive(Debug)]
pub struct Params;

impl Probe for Params {
    fn name(&self) -> &'static str {
        "params"
    }

    fn about(&self) -> &'static str {
        "parameters counted on the built network, checked against the closed form"
    }

    fn kind(&self) -> Kind {
        Kind::Exact
    }

    fn work(&self) -> Work {
        Work::Nothing
    }

    fn metrics(&self) -> Vec<Metric> {
        vec![
            PARAMS_TOTAL,
            PARAMS_ADDED,
            PARAMS_ADDED_PCT,
            PARAMS_LAUREL,
            PARAMS_CLOSED_FORM,
            PARAMS_EMBEDDING,
            PARAMS_NON_EMBEDDING,
            PARAMS_ACTIVE,
            PARAMS_BUFFERS,
            WEIGHTS_BYTES,
        ]
    }

    fn run(&self, subject: &mut Subject, _: &WindowSpec) -> anyhow::Result<Vec<Measurement>> {
        let store = subject.shapes()?;
        let counted = Counted::of(&store);
        let closed = subject.config.num_params();
        let buffers = store.buffers().iter().map(|(_, var)| var.elem_count()).sum();
        let exact = |metric: Metric, value: usize| Measurement::new(metric, Outcome::exact(value as f64));
        let mut rows = vec![
            equal(PARAMS_TOTAL, counted.total, closed.total),
            equal(PARAMS_LAUREL, counted.laurel, closed.laurel),
            exact(PARAMS_CLOSED_FORM, closed.laurel),
            equal(PARAMS_EMBEDDING, counted.embedding, closed.embedding),
            equal(PARAMS_NON_EMBEDDING, counted.total - counted.embedding, closed.non_embedding()),
            // A dense network: every parameter takes part in every token or picture.
            exact(PARAMS_ACTIVE, counted.total),
            exact(PARAMS_BUFFERS, buffers),
            exact(WEIGHTS_BYTES, store.weights_bytes()),
        ];
        if let Some(reference) = &subject.reference {
            let added = counted.total as f64 - reference.params_total as f64;
            rows.push(Measurement::new(PARAMS_ADDED, Outcome::exact(added)));
            rows.push(Measurement::new(PARAMS_ADDED_PCT, Outcome::exact(100.0 * added / reference.params_total as f64)));
        }
        Ok(rows)
    }
}

/// Elements of a network's distinct variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// All.
    pub total: usize,
    /// Token and position tables.
    pub embedding: usize,
    /// Below a module named `residual`, `attention_residual` or `mlp_residual`.
    pub laurel: usize,
}

impl Counted {
    /// Counts a store by variable and module path.
    pub fn of(store: &ParamStore) -> Self {
        let has = |name: &str, accept: fn(&str) -> bool| name.split('.').any(accept);
        Self {
            total: store.num_params(),
            embedding: store.num_params_where(|name| has(name, |part| part == "embed_tokens" || part == "embed_positions")),
            laurel: store.num_params_where(|name| has(name, |part| part == "residual" || part.ends_with("_residual"))),
        }
    }
}

/// A count that must equal its closed form; a difference is a failed row that shows both.
fn equal(metric: Metric, counted: usize, closed: usize) -> Measurement {
    if counted == closed {
        return Measurement::new(metric, Outcome::exact(counted as f64));
    }
    let reason = format!("counted {counted} parameters, the closed form says {closed}");
    Measurement::new(metric, Outcome::Failed(Reason::new(reason)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_off_its_closed_form_is_a_failed_row_with_both_numbers() {
        let row = records::Row::from(equal(PARAMS_LAUREL, 7, 8));
        assert_eq!(row.reason.as_deref(), Some("counted 7 parameters, the closed form says 8"));
        assert_eq!(row.value, None);
    }
}
