//! Templates to text.
//!
//! Jinja syntax, so that prompts compare character by character with the field's own files. Undefined names are errors, nothing is escaped, a
//! trailing newline is kept, `trim` strips what Python strips. The engine's other filters are not changed.
//!
//! ```text
//! prompt = description ++ (question₁ ++ target_delimiter ++ target₁ ++ fewshot_delimiter) … ++ question
//! ```

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior, Value};
use serde_json::Map;

use crate::doc::Doc;
use crate::error::TaskError;
use crate::metrics::text;

/// The compiled templates of one leaf, with the values of its parameter.
#[derive(Debug)]
pub(crate) struct Templates {
    task: String,
    environment: Environment<'static>,
    parameters: Value,
}

/// An environment that follows the rules of this module.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let mut syntax = SyntaxConfig::builder();
    syntax.keep_trailing_newline(true);
    environment.set_syntax(syntax.build().expect("the default delimiters are valid"));
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.add_filter("trim", |value: &str| text::strip(value).to_owned());
    environment
}

/// Fills `{{ name }}` in a string of a definition from its parameter's row. Not a template: a definition has some hundred leaves, and their names are
/// wanted before any template is.
///
/// # Errors
/// The name that the row lacks.
pub(crate) fn fill(text: &str, row: &Map<String, serde_json::Value>) -> Result<String, String> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").ok_or("`{{` without `}}`")?;
        filled.push_str(before);
        let name = name.trim();
        filled.push_str(
            row.get(name)
                .and_then(serde_json::Value::as_str)
                .ok_or_else(|| format!("no text `{name}` in the parameter's row"))?,
        );
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

impl Templates {
    /// Compiles named templates.
    ///
    /// # Errors
    /// The name of the template and the engine's message.
    pub(crate) fn new(
        task: &str,
        parameters: &Map<String, serde_json::Value>,
        templates: &[(&'static str, String)],
    ) -> Result<Self, (String, String)> {
        let mut environment = environment();
        for (name, source) in templates {
            environment.add_template_owned(*name, source.clone()).map_err(|e| ((*name).to_owned(), e.to_string()))?;
        }
        Ok(Self { task: task.to_owned(), environment, parameters: Value::from(Serde(parameters)) })
    }

    /// Renders a template over a document's fields; parameters are seen unless the document has a field of that name.
    pub(crate) fn render(&self, name: &str, doc: &Doc) -> Result<String, TaskError> {
        let context = minijinja::context! { ..Serde(&doc.fields), ..self.parameters.clone() };
        self.environment.get_template(name).and_then(|t| t.render(context)).map_err(|e| TaskError::Prompt {
            task: self.task.clone(),
            doc_id: doc.doc_id,
            template: name.to_owned(),
            message: format!("{e}; fields: {}", doc.fields.keys().cloned().collect::<Vec<_>>().join(", ")),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn doc(value: serde_json::Value) -> Doc {
        let serde_json::Value::Object(fields) = value else { panic!("an object") };
        Doc::new(3, fields)
    }

    fn templates(source: &str) -> Templates {
        Templates::new("t", &Map::new(), &[("question", source.to_owned())]).unwrap()
    }

    #[test]
    fn nothing_is_escaped_and_the_last_newline_stays() {
        let text = templates("{{ q }}\n").render("question", &doc(json!({"q": "a < b & \"c\" {{ d }}"}))).unwrap();
        assert_eq!(text, "a < b & \"c\" {{ d }}\n");
    }

    #[test]
    fn a_missing_field_is_an_error_that_lists_the_fields() {
        let error = templates("{{ q }}").render("question", &doc(json!({"quetsion": "x"}))).unwrap_err().to_string();
        assert!(error.contains("document 3") && error.contains("fields: quetsion"), "{error}");
    }

    #[test]
    fn fill_takes_texts_of_the_row_and_nothing_else() {
        let row = json!({"language": "de", "n": 3});
        let row = row.as_object().unwrap();
        assert_eq!(fill("mgsm_{{ language }}{2,}", row).unwrap(), "mgsm_de{2,}");
        assert!(fill("{{ n }}", row).is_err() && fill("{{ other }}", row).is_err() && fill("{{ language", row).is_err());
    }

    #[test]
    fn trim_strips_what_python_strips() {
        assert_eq!(templates("{{ q | trim }}").render("question", &doc(json!({"q": "\u{1f} a \n"}))).unwrap(), "a");
    }
}
