//! Arguments for a tool, found in the text of a request by what the tool says of its parameters.

use serde_json::{Map, Number, Value};

use super::phrases::{self, Text};
use super::words;

/// One parameter of a tool, as its schema declares it.
#[derive(Clone, Debug)]
pub(super) struct Parameter<'a> {
    name: &'a str,
    schema: &'a Value,
    required: bool,
    /// The words of its name, description and listed values.
    pub(super) stems: Vec<String>,
    meaning: Meaning,
}

/// What kind of thing a text parameter holds, as far as its words tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Meaning {
    Path,
    Place,
    Address,
    Words,
    Unclear,
}

/// Arguments, or the first required one that the request does not hold.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Filled {
    pub(super) arguments: Result<Value, Missing>,
    /// Words of the request that went into an argument.
    pub(super) used: Vec<String>,
    /// The request holds something that can only be an argument of this kind of tool.
    pub(super) evidence: bool,
}

/// A required argument that the request does not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Missing {
    pub(super) name: String,
    pub(super) description: String,
}

/// The parameters of a schema, required ones first.
pub(super) fn parameters(schema: &Value) -> Vec<Parameter<'_>> {
    let required = |name: &str| {
        let list = schema.get("required").and_then(Value::as_array);
        list.is_some_and(|list| list.iter().any(|item| item.as_str() == Some(name)))
    };
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return Vec::new();
    };
    let mut parameters: Vec<Parameter<'_>> =
        properties.iter().map(|(name, schema)| Parameter::new(name, schema, required(name))).collect();
    parameters.sort_by_key(|parameter| !parameter.required);
    parameters
}

/// Fills every parameter that the clause speaks of. `about_tool` knows the words that describe the tool
/// and so are no argument.
pub(super) fn fill(clause: &str, parameters: &[Parameter<'_>], about_tool: &dyn Fn(&str) -> bool) -> Filled {
    let mut text = Text::new(clause, about_tool);
    let mut filled = Map::new();
    let mut missing = None;
    let mut evidence = false;
    // Paths first: a file name is easy to tell, and must not become part of another text.
    let mut order: Vec<&Parameter<'_>> = parameters.iter().collect();
    order.sort_by_key(|parameter| parameter.meaning != Meaning::Path);
    for parameter in order {
        match parameter.find(&mut text) {
            Some(value) => {
                evidence |= parameter.meaning == Meaning::Path && text.found_path;
                filled.insert(parameter.name.to_owned(), value);
            }
            None if parameter.required && missing.is_none() => missing = Some(parameter.missing()),
            None => {}
        }
    }
    let used = text.used().iter().flat_map(|part| words::stems(part)).collect();
    let arguments = missing.map_or(Ok(Value::Object(filled)), Err);
    Filled { arguments, used, evidence }
}

impl<'a> Parameter<'a> {
    fn new(name: &'a str, schema: &'a Value, required: bool) -> Self {
        let description = schema.get("description").and_then(Value::as_str).unwrap_or_default();
        let listed = options(schema).map(|option| option.to_string()).collect::<Vec<_>>().join(" ");
        let meaning = match Meaning::of(name, schema) {
            Meaning::Unclear => Meaning::of(description, schema),
            told => told,
        };
        Self {
            name,
            schema,
            required,
            stems: words::stems(&format!("{name} {description} {listed}")),
            meaning,
        }
    }

    fn find(&self, text: &mut Text<'_>) -> Option<Value> {
        let listed = || self.listed(text.whole);
        let found = match self.schema.get("type").and_then(Value::as_str) {
            _ if options(self.schema).next().is_some() => listed(),
            Some("integer") => {
                text.number().filter(|number| number.fract() == 0.0).and_then(|number| self.number(number))
            }
            Some("number") => text.number().and_then(|number| self.number(number)),
            Some("boolean") => self.mentioned(text.whole).then_some(Value::Bool(true)),
            Some("string") | None => self.text(text).map(Value::String),
            Some(_) => None,
        };
        found.or_else(|| self.schema.get("default").filter(|_| self.required).cloned())
    }

    /// The listed value whose words the clause holds.
    fn listed(&self, clause: &str) -> Option<Value> {
        let stems = words::stems(clause);
        let lower = clause.to_lowercase();
        let spoken = |option: &&Value| match option {
            Value::String(option) => {
                let words = words::stems(option);
                !words.is_empty() && words.iter().all(|word| stems.contains(word))
                    || words.is_empty() && lower.split_whitespace().any(|word| word == option.to_lowercase())
            }
            other => lower.split_whitespace().any(|word| *word == *other.to_string()),
        };
        options(self.schema).find(spoken).cloned()
    }

    fn number(&self, number: f64) -> Option<Value> {
        let bound = |name: &str| self.schema.get(name).and_then(Value::as_f64);
        let inside = bound("minimum").is_none_or(|least| number >= least)
            && bound("maximum").is_none_or(|most| number <= most);
        let whole = number.fract() == 0.0 && number.abs() < 9.0e15;
        let value = if whole { Some(Number::from(number as i64)) } else { Number::from_f64(number) };
        value.filter(|_| inside).map(Value::Number)
    }

    fn mentioned(&self, clause: &str) -> bool {
        let stems = words::stems(clause);
        let name = words::stems(self.name);
        !name.is_empty() && name.iter().all(|word| stems.contains(word))
    }

    /// An optional text is filled only by something that is unmistakably of its kind.
    fn text(&self, text: &mut Text<'_>) -> Option<String> {
        let sure: Option<String> = match self.meaning {
            Meaning::Path => {
                text.path().or_else(|| self.has_default().then(|| text.folder_after_preposition()).flatten())
            }
            Meaning::Address => text.address(),
            Meaning::Place => text.place(),
            Meaning::Words | Meaning::Unclear => text.quoted().or_else(|| text.after_colon()),
        };
        match self.meaning {
            _ if sure.is_some() || !self.required => sure,
            Meaning::Path | Meaning::Address => None,
            Meaning::Place => text.quoted().or_else(|| text.neighbour()),
            Meaning::Words => text.rest(),
            Meaning::Unclear => {
                text.place().or_else(|| text.path()).or_else(|| text.neighbour()).or_else(|| text.rest())
            }
        }
    }

    fn has_default(&self) -> bool {
        self.schema.get("default").is_some()
    }

    fn missing(&self) -> Missing {
        let description = self.schema.get("description").and_then(Value::as_str).unwrap_or_default();
        Missing { name: self.name.to_owned(), description: description.to_owned() }
    }
}

impl Meaning {
    fn of(words: &str, schema: &Value) -> Self {
        if matches!(schema.get("format").and_then(Value::as_str), Some("uri" | "email" | "uri-reference")) {
            return Self::Address;
        }
        let stems = words::stems(words);
        let holds =
            |list: &[&str]| stems.iter().any(|stem| list.iter().any(|word| words::stem(word) == *stem));
        match () {
            () if holds(&["path", "file", "filename", "folder"]) => Self::Path,
            () if holds(&[
                "city",
                "place",
                "town",
                "location",
                "country",
                "region",
                "village",
                "destination",
            ]) =>
            {
                Self::Place
            }
            () if holds(&["url", "uri", "link", "email", "website"]) => Self::Address,
            () if holds(&phrases::TEXT_WORDS) => Self::Words,
            () => Self::Unclear,
        }
    }
}

/// The values that the schema lists.
fn options(schema: &Value) -> impl Iterator<Item = &Value> {
    schema.get("enum").and_then(Value::as_array).into_iter().flatten()
}
