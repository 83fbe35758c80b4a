use quintet_proto::tokenization::v1::{ApplyChatTemplateRequest, ApplyChatTemplateResponse, ChatMessage};
use tonic::Code;

use super::Subject;
use crate::conformance::check::{Checked, Verdict, ensure, shown};

/// Some moment: templates may write the date.
const NOW: i64 = 1_700_000_000;

pub(super) async fn spelled(subject: &Subject) -> Checked {
    let tokenizer = &subject.tokenizer;
    if tokenizer.chat_templates.is_empty() {
        let request = request(subject, "Hello");
        return match subject.client().apply_chat_template(request).await {
            Err(status) if status.code() == Code::FailedPrecondition => Err(Verdict::skipped("the tokenizer has no chat template, and says so")),
            Err(status) => Err(Verdict::failed(format!("without a template ApplyChatTemplate ends with {}", shown(&status)))),
            Ok(_) => Err(Verdict::failed("ApplyChatTemplate answers, and the tokenizer lists no template")),
        };
    }
    let Some(special) = tokenizer.special_tokens.iter().find(|special| !special.content.is_empty()) else {
        return Err(Verdict::skipped("the tokenizer has no special tokens"));
    };
    let plain = apply(subject, "Hello there").await?;
    let spelling = apply(subject, &format!("Hello {} there", special.content)).await?;
    let specials = |answer: &ApplyChatTemplateResponse| -> Vec<u32> {
        answer.encoding.iter().flat_map(|encoding| &encoding.ids).copied().filter(|id| subject.is_special(*id)).collect()
    };
    let (of_template, of_both) = (specials(&plain), specials(&spelling));
    ensure!(of_template == of_both, "a user who spells {:?} changes the special tokens from {of_template:?} to {of_both:?}", special.content);
    ensure!(spelling.text.contains(&special.content), "what the user spells is not in the text: {:?}", spelling.text);
    let again = apply(subject, "Hello there").await?;
    ensure!(again == plain, "the same conversation at the same time has another answer");
    Ok(())
}

fn request(subject: &Subject, said: &str) -> ApplyChatTemplateRequest {
    ApplyChatTemplateRequest {
        model: subject.tokenizer.name.clone(),
        model_version: subject.tokenizer.version.clone(),
        messages: vec![ChatMessage { role: "user".to_owned(), content: said.to_owned(), ..ChatMessage::default() }],
        add_generation_prompt: true,
        return_encoding: true,
        now_seconds: Some(NOW),
        ..ApplyChatTemplateRequest::default()
    }
}

async fn apply(subject: &Subject, said: &str) -> Result<ApplyChatTemplateResponse, Verdict> {
    match subject.client().apply_chat_template(request(subject, said)).await {
        Ok(answer) => Ok(answer.into_inner()),
        // Templates may ask for what a kit cannot know: tools, documents.
        Err(status) if status.code() == Code::InvalidArgument => {
            Err(Verdict::skipped(format!("the template does not take a plain message: {}", shown(&status))))
        }
        Err(status) => Err(status.into()),
    }
}
