//! The simulation as a provider in this process.

use crate::sim::{SimRefusal, SimRequest, Style, embeddings};
use crate::{Answer, CallError, ChatStream, Endpoint, Refusal, UpstreamCall};

/// The simulation as a provider in this process.
#[derive(Debug)]
pub(crate) struct SimProvider;

impl SimProvider {
    #[expect(clippy::unused_self, reason = "called like every other provider")]
    pub(crate) fn call(&self, call: &UpstreamCall) -> Result<Answer, CallError> {
        let json = |body| Answer::Full { content_type: "application/json".to_owned(), body };
        match call.endpoint {
            Endpoint::Embeddings => {
                embeddings(&call.body, Style::Normal).map(json).map_err(|refusal| refused(&refusal))
            }
            Endpoint::Chat => {
                let request = SimRequest::parse(&call.body).map_err(|refusal| refused(&refusal))?;
                let reply = request.answer().map_err(|refusal| refused(&refusal))?;
                if !call.stream {
                    return Ok(json(reply.full(Style::Normal)));
                }
                let frames = reply.frames(Style::Normal, None);
                Ok(Answer::Stream(Box::new(ChatStream::from_frames(frames, call.strip_usage))))
            }
        }
    }
}

fn refused(refusal: &SimRefusal) -> CallError {
    CallError::Refused(Box::new(Refusal {
        status: refusal.status,
        body: refusal.body.to_string().into(),
        retry_after: None,
    }))
}
