//! The methods' names and bits, and sets of them (cedar.md 5.1).

/// The methods this crate has, by the names and bits HTCondor uses on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Method {
    /// Kerberos 5, with mutual authentication.
    Kerberos,
    /// A bearer token inside TLS; the server proves itself by its certificate.
    SciTokens,
    /// A token of the pool (IDTOKENS); both sides prove that they know its signature.
    Token,
    /// TLS: the server's certificate, and ours if we have one.
    Ssl,
    /// A directory made on the same host. The server proves nothing.
    Fs,
    /// A name without any proof. For test pools.
    ClaimToBe,
    /// Nobody in particular.
    Anonymous,
}

impl Method {
    const ALL: [Method; 7] = [
        Method::Kerberos,
        Method::SciTokens,
        Method::Token,
        Method::Ssl,
        Method::Fs,
        Method::ClaimToBe,
        Method::Anonymous,
    ];

    /// What a client offers unless told otherwise: those in which the server proves itself, too.
    pub const DEFAULT: [Method; 4] = [Method::Kerberos, Method::SciTokens, Method::Token, Method::Ssl];

    /// Its name in lists.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Method::Kerberos => "KERBEROS",
            // servers normalise their own lists, not ours: no other spelling of these two is understood
            Method::SciTokens => "SCITOKENS",
            Method::Token => "TOKEN",
            Method::Ssl => "SSL",
            Method::Fs => "FS",
            Method::ClaimToBe => "CLAIMTOBE",
            Method::Anonymous => "ANONYMOUS",
        }
    }

    fn bit(self) -> i64 {
        match self {
            Method::ClaimToBe => 2,
            Method::Fs => 4,
            Method::Kerberos => 64,
            Method::Anonymous => 128,
            Method::Ssl => 256,
            Method::Token => 2048,
            Method::SciTokens => 4096,
        }
    }

    /// The method of that name, if this crate has it; `IDTOKENS`, `TOKENS`, `IDTOKEN` and `SCITOKEN` are names, too.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let name = match name {
            name if ["IDTOKENS", "IDTOKEN", "TOKENS"]
                .iter()
                .any(|n| n.eq_ignore_ascii_case(name)) =>
            {
                "TOKEN"
            }
            name if name.eq_ignore_ascii_case("SCITOKEN") => "SCITOKENS",
            name => name,
        };
        Self::ALL
            .into_iter()
            .find(|method| method.name().eq_ignore_ascii_case(name))
    }

    /// Whether the server proves who it is before anything of ours is worth stealing.
    #[must_use]
    pub fn proves_the_server(self) -> bool {
        Self::DEFAULT.contains(&self)
    }
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of methods in somebody's order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Methods(Vec<Method>);

impl Methods {
    /// Without any.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Their wire names, comma separated.
    #[must_use]
    pub fn names(&self) -> String {
        self.0
            .iter()
            .map(|method| method.name())
            .collect::<Vec<_>>()
            .join(",")
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `method` is one of them.
    #[must_use]
    pub fn contains(&self, method: Method) -> bool {
        self.0.contains(&method)
    }

    /// In their order.
    pub fn iter(&self) -> impl Iterator<Item = Method> {
        self.0.iter().copied()
    }

    pub(crate) fn mask(&self) -> i64 {
        self.0.iter().fold(0, |mask, method| mask | method.bit())
    }

    pub(crate) fn of_bit(&self, bit: i64) -> Option<Method> {
        self.0.iter().copied().find(|method| method.bit() == bit)
    }

    pub(crate) fn remove(&mut self, method: Method) {
        self.0.retain(|m| *m != method);
    }

    pub(crate) fn common(&self, others: &Methods) -> Methods {
        self.0
            .iter()
            .copied()
            .filter(|method| others.0.contains(method))
            .collect()
    }
}

impl FromIterator<Method> for Methods {
    fn from_iter<I: IntoIterator<Item = Method>>(methods: I) -> Self {
        let mut set = Vec::new();
        for method in methods {
            if !set.contains(&method) {
                set.push(method);
            }
        }
        Self(set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_bits_are_the_wires() {
        let all: Methods = Method::ALL.into_iter().collect();
        assert_eq!(all.names(), "KERBEROS,SCITOKENS,TOKEN,SSL,FS,CLAIMTOBE,ANONYMOUS");
        assert_eq!(all.mask(), 2 | 4 | 64 | 128 | 256 | 2048 | 4096);
        for method in Method::ALL {
            assert_eq!(Method::from_name(&method.name().to_lowercase()), Some(method));
            assert_eq!(all.of_bit(method.bit()), Some(method));
        }
        assert_eq!(Method::from_name("IDTOKENS"), Some(Method::Token));
        assert_eq!(Method::from_name("PASSWORD"), None);
        assert!(Method::DEFAULT.iter().all(|method| method.proves_the_server()));
        assert!(!Method::Fs.proves_the_server());
    }
}
