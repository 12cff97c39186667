use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit as _, Mac as _};
use rmcp::{
    ErrorData,
    model::{ClientCapabilities, InputRequest, InputRequests, InputRequiredResult, InputResponses, JsonObject},
};
use serde::Deserialize;
use serde_json::Value;
use sha2::Sha256;

/// The questions that a tool or a prompt asks its client, round by round, before it answers.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Dialogue {
    /// The answer, in which `{name}` stands for a value that the client gave.
    pub(crate) answer: String,
    /// Whether the number of the round is kept in a state that the client sends back.
    #[serde(default)]
    sealed: bool,
    rounds: Vec<InputRequests>,
}

/// The next step of a dialogue.
#[derive(Debug)]
pub(crate) enum Turn {
    /// The client has to answer these requests.
    Ask(InputRequiredResult),
    /// The client has answered everything with these values.
    Told(JsonObject),
}

impl Dialogue {
    /// Returns the next step for a request with these responses and this state.
    ///
    /// # Errors
    ///
    /// `-32602` when the state was not issued by this server for this dialogue; `-32021` when the client cannot answer
    /// any of the requests.
    pub(crate) fn turn(
        &self,
        seal: &Seal,
        name: &str,
        client: &ClientCapabilities,
        responses: Option<&InputResponses>,
        state: Option<&str>,
    ) -> Result<Turn, ErrorData> {
        let round = match state.filter(|_| self.sealed) {
            Some(state) => seal.open(name, state)?,
            None => 0,
        };
        let Some(requests) = self.rounds.get(round) else {
            return Err(ErrorData::invalid_params("no such round", None));
        };
        let asked = answerable(requests, client)?;
        let Some(told) = responses.and_then(|responses| told(&asked, responses)) else {
            return Ok(self.ask(seal, name, round, asked));
        };
        match self.rounds.get(round + 1) {
            Some(next) => Ok(self.ask(seal, name, round + 1, answerable(next, client)?)),
            None => Ok(Turn::Told(told)),
        }
    }

    fn ask(&self, seal: &Seal, name: &str, round: usize, requests: InputRequests) -> Turn {
        let state = self.sealed.then(|| seal.close(name, round));
        Turn::Ask(InputRequiredResult::new(Some(requests), state))
    }
}

/// Returns the requests that the client has declared it can answer.
fn answerable(requests: &InputRequests, client: &ClientCapabilities) -> Result<InputRequests, ErrorData> {
    let can = |request: &InputRequest| match request {
        InputRequest::Elicitation(_) => client.elicitation.is_some(),
        InputRequest::CreateMessage(_) => client.sampling.is_some(),
        InputRequest::ListRoots(_) => client.roots.is_some(),
        _ => false,
    };
    let answerable: InputRequests = requests
        .iter()
        .filter(|(_, request)| can(request))
        .map(|(key, request)| (key.clone(), request.clone()))
        .collect();
    if answerable.is_empty() {
        let required = ClientCapabilities::builder().enable_elicitation().build();
        return Err(ErrorData::missing_required_client_capability(required));
    }
    Ok(answerable)
}

/// Returns the values that the client gave; `None` unless it has answered every request in a form that an answer can
/// have.
fn told(asked: &InputRequests, responses: &InputResponses) -> Option<JsonObject> {
    let mut told = JsonObject::new();
    for key in asked.keys() {
        let answer = responses.get(key)?.as_object()?;
        match answer.get("content") {
            Some(Value::Object(content)) => told.extend(content.clone()),
            _ => drop(told.insert(key.clone(), answer.clone().into())),
        }
    }
    Some(told)
}

/// A key that authenticates the state that a client keeps for the server, so that a changed state is noticed.
#[derive(Debug)]
pub(crate) struct Seal([u8; 32]);

impl Seal {
    pub(crate) fn new() -> Result<Self, getrandom::Error> {
        let mut key = [0; 32];
        getrandom::fill(&mut key)?;
        Ok(Self(key))
    }

    fn close(&self, name: &str, round: usize) -> String {
        format!("{round}.{}", HEXLOWER.encode(&self.mac(name, round).finalize().into_bytes()))
    }

    fn open(&self, name: &str, state: &str) -> Result<usize, ErrorData> {
        let opened = || {
            let (round, tag) = state.split_once('.')?;
            let (round, tag) = (round.parse().ok()?, HEXLOWER.decode(tag.as_bytes()).ok()?);
            self.mac(name, round).verify_slice(&tag).ok()?;
            Some(round)
        };
        opened().ok_or_else(|| ErrorData::invalid_params("the state is not one of this server's", None))
    }

    #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
    fn mac(&self, name: &str, round: usize) -> Hmac<Sha256> {
        let mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("a key of any length");
        mac.chain_update(name).chain_update(round.to_le_bytes())
    }
}
