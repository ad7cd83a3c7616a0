//! The server that says anything at any time.

use std::sync::LazyLock;

use cedar::{
    classad::Ad,
    security::SessionKey,
    wire::{Channel, Mode, Outgoing},
};

use crate::hostile::{ads, keys::Pair};

/// What is the same in every script, and costs more than all the rest together.
struct Server {
    /// An honest one's, for KERBEROS.
    policy: Ad,
    /// The key agreed with the client's pair, which is always the same.
    key: Option<SessionKey>,
}

static SERVER: LazyLock<Server> = LazyLock::new(|| {
    let pair = Pair::new(7);
    Server {
        policy: ads::policy(&pair, "KERBEROS"),
        key: pair.agree(&Pair::new(3).public()),
    }
});

/// What the server does, read off the fuzzer's bytes.
pub(super) struct Script<'a> {
    rest: &'a [u8],
    pub(super) channel: Channel,
    /// The user of the last verdict that was sealed with the key.
    pub(super) said: Option<&'static str>,
    /// How many messages were sealed for this connection.
    pub(super) sealed: usize,
    /// All it ever sent, on both connections, and what the client sent last: to be played again.
    sent: Vec<Vec<u8>>,
    pub(super) heard: Vec<u8>,
}

const USERS: [&str; 6] = [
    "dunepro@mtk.test",
    "novapro@mtk.test",
    "ssl@unmapped",
    "dunepro",
    "",
    "dunepro@mtk.test@evil",
];

impl<'a> Script<'a> {
    pub(super) fn new(rest: &'a [u8]) -> Self {
        Self {
            rest,
            channel: Channel::new(),
            said: None,
            sealed: 0,
            sent: Vec::new(),
            heard: Vec::new(),
        }
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(self.byte()?) * 2;
        let (head, rest) = self.rest.split_at(length.min(self.rest.len()));
        self.rest = rest;
        Some(head)
    }

    fn message(&mut self, message: &Outgoing) -> Vec<u8> {
        self.sealed += usize::from(self.channel.mode() == Mode::Sealed);
        self.channel.send(message).unwrap_or_default()
    }

    pub(super) fn seal(&mut self) {
        if let Some(key) = &SERVER.key {
            self.channel.seal(key, [0x5a; 16]);
        }
    }

    fn new_message(&self) -> Outgoing {
        Outgoing::new(self.channel.mode())
    }

    fn ad(&mut self, ad: &Ad) -> Vec<u8> {
        let message = ad.encode(self.new_message());
        message.map(|message| self.message(&message)).unwrap_or_default()
    }

    /// The next bytes on the wire; `None` when it closes.
    pub(super) fn next(&mut self) -> Option<Vec<u8>> {
        match self.byte()? {
            13 => {
                let which = usize::from(self.byte()?);
                Some(self.sent.get(which).cloned().unwrap_or_default())
            }
            14 => Some(self.heard.clone()),
            other => {
                let bytes = self.fresh(other)?;
                self.sent.push(bytes.clone());
                Some(bytes)
            }
        }
    }

    fn fresh(&mut self, step: u8) -> Option<Vec<u8>> {
        Some(match step {
            0 => {
                let methods = [
                    "KERBEROS",
                    "",
                    "CLAIMTOBE",
                    "KERBEROS,CLAIMTOBE",
                    "SSL,FS",
                    "SCITOKENS,SSL",
                ];
                let which = usize::from(self.byte()?);
                let methods = methods.get(which % methods.len()).unwrap_or(&"");
                let mut policy = Ad::new();
                for (name, value) in SERVER.policy.iter() {
                    match name {
                        "AuthMethodsList" => policy.set(name, *methods),
                        "Authentication" if methods.is_empty() => policy.set(name, "NO"),
                        name => policy.set(name, value.clone()),
                    }
                }
                self.ad(&policy)
            }
            1 => self.ad(&ads::open_policy()),
            // the honest policy and lines of the fuzzer's, which count if they come later
            2 => {
                let mut lines: Vec<Vec<u8>> = SERVER
                    .policy
                    .iter()
                    .map(|(n, v)| format!("{n} = {v}").into())
                    .collect();
                let more = self.bytes()?;
                lines.extend(more.split(|b| *b == 0).map(<[u8]>::to_vec));
                let lines: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
                let payload = ads::lines(self.channel.mode(), &lines);
                let message = self.new_message().raw(&payload);
                self.message(&message)
            }
            3 => {
                let numbers = [
                    0,
                    1,
                    2,
                    3,
                    4,
                    64,
                    2048,
                    -1,
                    i64::MIN,
                    i64::MAX,
                    1 << 31,
                    256,
                    4096,
                    128,
                ];
                let which = usize::from(self.byte()?);
                let number = numbers.get(which % numbers.len()).copied().unwrap_or_default();
                let message = self.new_message().int(number);
                self.message(&message)
            }
            4 => {
                let payload = self.bytes()?;
                let message = self.new_message().raw(payload);
                self.message(&message)
            }
            5 => self.bytes()?.to_vec(),
            6 => {
                self.seal();
                Vec::new()
            }
            7 => {
                let which = usize::from(self.byte()?);
                let user = USERS.get(which % USERS.len()).copied().unwrap_or_default();
                if self.channel.mode() == Mode::Sealed {
                    self.said = Some(user);
                }
                self.ad(&ads::verdict(user, "AUTHORIZED"))
            }
            // an AP-REP
            8 => {
                let message = self.new_message().int(4).length(3).raw(&[0x6f, 1, 0]);
                self.message(&message)
            }
            9 => {
                let lines = self.bytes()?;
                let lines: Vec<&[u8]> = lines.split(|b| *b == 0).collect();
                let payload = ads::lines(self.channel.mode(), &lines);
                let code = i64::from(self.byte()?);
                let message = self.new_message().int(code).raw(&payload);
                self.message(&message)
            }
            // a status and TLS records
            10 => {
                let status = i64::from(self.byte()?) - 1;
                let records = self.bytes()?;
                let message = self.new_message().int(status).length(records.len()).raw(records);
                self.message(&message)
            }
            11 => {
                let message = self.new_message().string("a path", "/tmp/FS_XXXa").ok()?;
                self.message(&message)
            }
            // the word on a resumption
            12 => {
                let codes = ["AUTHORIZED", "SID_NOT_FOUND", "DENIED", ""];
                let which = usize::from(self.byte()?);
                let code = codes.get(which % codes.len()).copied().unwrap_or_default();
                let mut ad = Ad::new();
                ad.set("ReturnCode", code);
                ad.set("Nonce", "another");
                self.ad(&ad)
            }
            _ => return None,
        })
    }
}
