//! Which examples stand before a document.
//!
//! ```text
//! first_n    the first n of the pool, without the document itself
//! default    compat:    CPython's Random(1234), made once per leaf, one sample per document in document order; n + 1 are drawn and documents
//!                       equal to the evaluated one dropped where the reference's few-shot and test settings are equal
//!            canonical: a generator keyed by (task, seed, document), so that a document's shots never depend on which others are evaluated
//! ```
//! Source: EleutherAI/lm-evaluation-harness 0.4.13, `lm_eval/api/samplers.py`.

use crate::definition::{Leaf, Sampler};
use crate::doc::Doc;
use crate::error::TaskError;
use crate::prepare::TaskData;
use crate::python_random::PythonRandom;
use crate::registry::leaf;
use crate::request::Request;
use crate::spec::Profile;
use crate::task::Task;

/// Seed of the reference's few-shot draws, and of ours.
const FEWSHOT_SEED: u64 = 1234;

/// A document with its shots and requests.
#[derive(Debug, Clone)]
pub struct PreparedDoc {
    /// The document.
    pub doc: Doc,
    /// Positions of the shots in the pool, in the order of the prompt.
    pub shot_ids: Vec<usize>,
    /// The shots.
    pub shots: Vec<Doc>,
    /// What to ask.
    pub requests: Vec<Request>,
}

/// Draws shots document by document.
struct ShotSampler<'a> {
    leaf: Leaf,
    data: &'a TaskData,
    num: usize,
    random: PythonRandom,
}

impl<'a> ShotSampler<'a> {
    fn new(task: &dyn Task, data: &'a TaskData, num: usize) -> Result<Self, TaskError> {
        let leaf = leaf(&task.spec().name, task.profile())?;
        let pool = data.fewshot_pool.len();
        // a pool that is the evaluated split loses the document itself
        let wanted = num
            + usize::from(leaf.fewshot.pool_is_test)
            + usize::from(leaf.profile == Profile::Compat && leaf.fewshot.draws_one_to_spare);
        if num > 0 && pool < wanted {
            return Err(TaskError::Fewshot { task: leaf.spec.name, wanted, found: pool, hint: data.fewshot_missing.clone() });
        }
        Ok(Self { leaf, data, num, random: PythonRandom::new(FEWSHOT_SEED) })
    }

    fn sampler(&self) -> Sampler {
        match self.leaf.profile {
            Profile::Compat => self.leaf.fewshot.sampler,
            Profile::Canonical => self.leaf.fewshot.canonical_sampler.unwrap_or(self.leaf.fewshot.sampler),
        }
    }

    /// Positions in the pool for the next document; in `compat` documents must come in order.
    fn next(&mut self, doc: &Doc) -> Result<Vec<usize>, TaskError> {
        if self.num == 0 {
            return Ok(Vec::new());
        }
        let pool = &self.data.fewshot_pool;
        let others = || (0..pool.len()).filter(|i| pool[*i].fields != doc.fields);
        let drawn: Vec<usize> = match (self.sampler(), self.leaf.profile) {
            (Sampler::FirstN, _) if self.leaf.fewshot.pool_is_test => others().take(self.num).collect(),
            (Sampler::FirstN, _) => (0..self.num).collect(),
            (Sampler::Default, Profile::Compat) if self.leaf.fewshot.draws_one_to_spare || self.leaf.fewshot.pool_is_test => {
                let mut drawn = self.random.sample(pool.len(), self.num + 1);
                drawn.retain(|i| pool[*i].fields != doc.fields);
                if drawn.len() < self.num {
                    let others: Vec<usize> = others().collect();
                    if others.len() >= self.num {
                        drawn = self.random.sample(others.len(), self.num).into_iter().map(|i| others[i]).collect();
                    }
                }
                drawn.truncate(self.num);
                drawn
            }
            (Sampler::Default, Profile::Compat) => self.random.sample(pool.len(), self.num),
            (Sampler::Default, Profile::Canonical) => {
                let others: Vec<usize> = others().collect();
                if others.len() < self.num {
                    Vec::new()
                } else {
                    let mut rng =
                        stats::rng::stream(&format!("tasks/fewshot/{}", self.leaf.spec.name), FEWSHOT_SEED, doc.doc_id as u64);
                    stats::rng::sample_indices(&mut rng, others.len(), self.num).into_iter().map(|i| others[i]).collect()
                }
            }
        };
        if drawn.len() < self.num {
            let hint = Some("documents equal to the evaluated one are left out".to_owned());
            return Err(TaskError::Fewshot { task: self.leaf.spec.name.clone(), wanted: self.num, found: drawn.len(), hint });
        }
        Ok(drawn)
    }
}

/// The shots of document `doc_index`, in the order of the prompt. For many documents use [`prepare`], which draws each once.
///
/// # Errors
/// A pool that is missing or smaller than the number asked for.
pub fn fewshot(task: &dyn Task, data: &TaskData, doc_index: usize, num_fewshot: usize) -> Result<Vec<Doc>, TaskError> {
    let mut sampler = ShotSampler::new(task, data, num_fewshot)?;
    let mut drawn = Vec::new();
    for doc in data.docs.iter().take(doc_index + 1) {
        drawn = sampler.next(doc)?; // CPython's generator must pass every earlier document
    }
    Ok(drawn.into_iter().map(|i| data.fewshot_pool[i].clone()).collect())
}

/// The first `limit` documents (all without a limit) with their shots and requests, in document order.
///
/// `num_fewshot` `None` takes the task's default; a task that fixes its number keeps it whatever is asked.
///
/// # Errors
/// A pool that is missing or too small, a template that cannot be rendered.
pub fn prepare(
    task: &dyn Task,
    data: &TaskData,
    num_fewshot: Option<usize>,
    limit: Option<usize>,
) -> Result<Vec<PreparedDoc>, TaskError> {
    let spec = task.spec();
    let num = if spec.num_fewshot_fixed { spec.num_fewshot } else { num_fewshot.unwrap_or(spec.num_fewshot) };
    let mut sampler = ShotSampler::new(task, data, num)?;
    let count = limit.unwrap_or(data.docs.len()).min(data.docs.len());
    let mut prepared = Vec::with_capacity(count);
    for doc in &data.docs[..count] {
        let shot_ids = sampler.next(doc)?;
        let shots: Vec<Doc> = shot_ids.iter().map(|i| data.fewshot_pool[*i].clone()).collect();
        let requests = task.requests(doc, &shots)?;
        prepared.push(PreparedDoc { doc: doc.clone(), shot_ids, shots, requests });
    }
    Ok(prepared)
}
