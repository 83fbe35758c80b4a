//! What the tokenization service refuses, as fields of the request to this service that they came from.

use quintet_serving::error::FieldViolation;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::Error;

/// Which text of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The text itself.
    Text,
    /// The one that goes with it.
    Pair,
}

impl Error {
    /// What the status of a call to the tokenization service says: that it refused the request, or anything else.
    pub(crate) fn of_tokenization(status: Status) -> Self {
        // OUT_OF_RANGE: the texts, or their tokens, are more than a message holds.
        if !matches!(status.code(), Code::InvalidArgument | Code::OutOfRange) {
            return Self::Tokenization(status);
        }
        let named = status.get_details_bad_request().map(|details| details.field_violations).unwrap_or_default();
        let mut violations: Vec<FieldViolation> =
            named.into_iter().map(|violation| FieldViolation { field: violation.field, description: violation.description }).collect();
        if violations.is_empty() {
            violations.push(FieldViolation { field: String::new(), description: status.message().to_owned() });
        }
        Self::Refused(violations)
    }

    /// What was refused of inputs to encode, named as who asked knows them: `input` by its place, `all` of them together.
    pub(crate) fn of_inputs(self, all: &str, input: impl Fn(usize, Part) -> String) -> Self {
        self.renamed(|path| match place(path) {
            Some((index, part)) => input(index, part),
            None => all.to_owned(),
        })
    }

    /// What was refused of a conversation: its fields have the same names here and there.
    pub(crate) fn of_conversation(self) -> Self {
        self.renamed(|path| if path.is_empty() { "messages".to_owned() } else { path.to_owned() })
    }

    /// What is wrong with how a conversation is to be answered: its prompt are the messages.
    pub(crate) fn of_chat(self) -> Self {
        let Self::Invalid(violations) = self else { return self };
        let within = |violation: FieldViolation| {
            let field = match violation.field.as_str() {
                "prompt" | "prompt_ids" => "messages".to_owned(),
                field => format!("generate.{field}"),
            };
            FieldViolation { field, ..violation }
        };
        Self::Invalid(violations.into_iter().map(within).collect())
    }

    fn renamed(self, name: impl Fn(&str) -> String) -> Self {
        let Self::Refused(violations) = self else { return self };
        let mut renamed: Vec<FieldViolation> = Vec::new();
        for FieldViolation { field, description } in violations {
            // A list that was cut says so at its end, under no name.
            let field = if field.is_empty() && !renamed.is_empty() { field } else { name(&field) };
            // One text here may have been many there.
            if !renamed.iter().any(|known| known.field == field) {
                renamed.push(FieldViolation { field, description });
            }
        }
        Self::Invalid(renamed)
    }
}

/// The place of an input, and which of its texts a path means: `inputs[3].pair`.
fn place(path: &str) -> Option<(usize, Part)> {
    let (index, member) = path.strip_prefix("inputs[")?.split_once(']')?;
    Some((index.parse().ok()?, if member == ".pair" { Part::Pair } else { Part::Text }))
}

#[cfg(test)]
mod tests {
    use quintet_serving::error::{Kind, ServiceError};
    use tonic_types::ErrorDetails;

    use super::*;

    fn refused(fields: &[&str]) -> Error {
        let mut details = ErrorDetails::new();
        for field in fields {
            details.add_bad_request_violation(*field, "2: at most 1");
        }
        Error::of_tokenization(Status::with_error_details(Code::InvalidArgument, "many", details))
    }

    fn named(error: &Error) -> Vec<String> {
        assert_eq!(error.reason(), "INVALID_REQUEST");
        let Kind::InvalidArgument(violations) = error.kind() else { panic!("{error}") };
        violations.into_iter().map(|violation| violation.field).collect()
    }

    #[test]
    fn inputs_have_the_names_of_who_asked() {
        let pair = |index, part| if part == Part::Text { "query".to_owned() } else { format!("documents[{index}]") };
        let error = refused(&["inputs[0].text", "inputs[1].text", "inputs[12].pair", "truncation", ""]).of_inputs("documents", pair);
        assert_eq!(named(&error), ["query", "documents[12]", "documents", ""]);
        assert_eq!(named(&refused(&["inputs[x].text"]).of_inputs("texts", pair)), ["texts"]);
    }

    #[test]
    fn a_conversation_keeps_its_paths() {
        assert_eq!(named(&refused(&["messages[0].role", "tools[1]"]).of_conversation()), ["messages[0].role", "tools[1]"]);
        let too_large = Error::of_tokenization(Status::out_of_range("a message of 70 MB"));
        assert_eq!(named(&too_large.of_conversation()), ["messages"]);
        let answer = Error::Invalid(
            ["n", "prompt_ids", "sampling.top_p"].map(|field| FieldViolation { field: field.into(), description: String::new() }).into(),
        );
        assert_eq!(named(&answer.of_chat()), ["generate.n", "messages", "generate.sampling.top_p"]);
    }

    #[test]
    fn what_is_not_the_requests_fault_stays_as_it_is() {
        let gone = Error::of_tokenization(Status::unavailable("gone")).of_conversation();
        assert!(matches!(gone.kind(), Kind::Unavailable { .. }), "{gone}");
        // Ids that the model itself has drawn.
        assert_eq!(refused(&["ids[0]"]).kind(), Kind::FailedPrecondition);
    }
}
