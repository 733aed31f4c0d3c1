//! MBPP: one file of 974 tasks; ids 11 to 510 are the test split, 2, 3 and 4 the reference's shots.

use serde_json::{Map, Value};

use super::{Loader, Origin, Record, Role};
use crate::definition::Leaf;
use crate::error::TaskError;

pub(crate) struct Mbpp;

impl Loader for Mbpp {
    fn candidates(&self, _leaf: &Leaf, role: Role) -> Vec<String> {
        let paths: &[&str] = match role {
            Role::Test => &["mbpp/mbpp.jsonl", "mbpp/mbpp_test.jsonl", "mbpp/full/test.jsonl", "mbpp/test.jsonl"],
            Role::Shots => &["mbpp/mbpp.jsonl", "mbpp/mbpp_prompt.jsonl", "mbpp/full/prompt.jsonl", "mbpp/prompt.jsonl"],
        };
        paths.iter().map(|p| (*p).to_owned()).collect()
    }

    fn fields(&self, _leaf: &Leaf, role: Role, origin: Origin, record: &Record) -> Result<Option<Map<String, Value>>, TaskError> {
        let id = record.index("task_id", usize::MAX)?;
        let wanted = match role {
            _ if origin == Origin::Bundled => true, // its split field has decided
            Role::Test => (11..=510).contains(&id),
            Role::Shots => (2..=4).contains(&id),
        };
        if !wanted {
            return Ok(None);
        }
        record.filled_text("text")?;
        record.filled_text("code")?;
        let tests = record.texts("test_list")?;
        if tests.len() < 3 {
            return Err(record.error("test_list", "at least 3 tests", format!("{} tests", tests.len())));
        }
        Ok(Some(record.only(&["task_id", "text", "code", "test_list", "test_setup_code", "challenge_test_list"])))
    }
}
