//! `use CATEGORY : NAME`: what the templates set that a client of a pool reads.
//!
//! HTCondor's templates set much more, for daemons; that is left out. What a template may choose by conditions on the
//! host is not guessed: it is named as not followed.

/// What a template means here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Template {
    /// Nothing that concerns a client.
    Nothing,
    /// These lines.
    Lines(&'static str),
    /// It sets such things by rules that are not followed here.
    NotFollowed,
}

use Template::{Lines, NotFollowed, Nothing};

const STRONG: &str = "SEC_DEFAULT_ENCRYPTION = required\nSEC_DEFAULT_INTEGRITY = required\nSEC_DEFAULT_AUTHENTICATION = required\n";

const IDTOKENS: &str = "use SECURITY : recommended\n\
    SEC_CLIENT_AUTHENTICATION_METHODS = $(SEC_DEFAULT_AUTHENTICATION_METHODS:FS,IDTOKENS,KERBEROS,SCITOKENS,SSL),ANONYMOUS\n\
    TRUST_DOMAIN = $(CONDOR_HOST)\n";

const RECOMMENDED: &str = "use SECURITY : STRONG\nSEC_CLIENT_AUTHENTICATION = OPTIONAL\n";

/// Of 23.9 and 25.14.
const ROLE: &[(&str, Template)] = &[
    ("CentralManager", Nothing),
    ("Execute", Nothing),
    ("Submit", Nothing),
    (
        "Personal",
        Lines("CONDOR_HOST = 127.0.0.1\nCOLLECTOR_HOST = $(CONDOR_HOST):0\n"),
    ),
    (
        "get_htcondor_central_manager",
        Lines("use SECURITY : get_htcondor_idtokens\n"),
    ),
    (
        "get_htcondor_submit",
        Lines("use SECURITY : get_htcondor_idtokens\n"),
    ),
    (
        "get_htcondor_execute",
        Lines("use SECURITY : get_htcondor_idtokens\n"),
    ),
];

const SECURITY: &[(&str, Template)] = &[
    ("FIPS", Lines(STRONG)),
    ("STRONG", Lines(STRONG)),
    ("get_htcondor_idtokens", Lines(IDTOKENS)),
    ("HOST_BASED", Nothing),
    ("recommended", Lines(RECOMMENDED)),
    ("recommended_v24_0", Lines(RECOMMENDED)),
    ("recommended_v9_0", Lines("use SECURITY : STRONG\n")),
    // another one in each version
    ("USER_BASED", NotFollowed),
    (
        "WITH_AUTHENTICATION",
        Lines("SEC_DEFAULT_AUTHENTICATION = required\nSEC_DEFAULT_INTEGRITY = required\n"),
    ),
];

/// Those of FEATURE that may touch what a client reads.
const FEATURE: &[(&str, Template)] = &[("HPC_ANNEX", NotFollowed)];

const OTHER_FEATURES: &[&str] = &[
    "ADSTASH",
    "AssignAccountingGroup",
    "AssignProjectName",
    "ChildCollector",
    "CommonCloudAttributesAWS",
    "CommonCloudAttributesGoogle",
    "ContinuousCronHook",
    "DefaultCheckpointDestination",
    "GANGLIA",
    "GPUs",
    "GPUsMonitor",
    "JobsHaveInstanceIDs",
    "KRB",
    "LIBRARIAN",
    "METRICD",
    "Monitor",
    "OAUTH",
    "OneShotCronHook",
    "PartitionableSlot",
    "PelicanCache",
    "PelicanRetryPolicy",
    "PeriodicCronHook",
    "POLICY_EXPR_FRAGMENTS",
    "POLICY_HOURS_TO_START",
    "REMOTE_CONFIG",
    "REMOTE_RUNTIME_CONFIG",
    "ScheddCronContinuous",
    "ScheddCronOneShot",
    "ScheddCronPeriodic",
    "ScheddUsermapFile",
    "SetJobAttrFromUsermap",
    "StartdCronContinuous",
    "StartdCronOneShot",
    "StartdCronPeriodic",
    "StaticSlots",
    "TESTINGMODE_POLICY_VALUES",
    "UWCS_DESKTOP_POLICY_VALUES",
];

fn among(table: &[(&str, Template)], name: &str) -> Option<Template> {
    let found = table.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.map(|(_, template)| *template)
}

/// The template, if there is one of that name. Policies are all about the jobs of a host.
pub(crate) fn find(category: &str, name: &str) -> Option<Template> {
    match category.to_ascii_uppercase().as_str() {
        "ROLE" => among(ROLE, name),
        "SECURITY" => among(SECURITY, name),
        "POLICY" => Some(Nothing),
        "FEATURE" => among(FEATURE, name).or_else(|| {
            let known = OTHER_FEATURES
                .iter()
                .any(|known| known.eq_ignore_ascii_case(name));
            known.then_some(Nothing)
        }),
        _ => None,
    }
}

/// `CATEGORY:NAME`, as `if defined use` asks.
pub(crate) fn is_known(text: &str) -> bool {
    text.split_once(':')
        .is_some_and(|(category, name)| find(category.trim(), name.trim()).is_some())
}

/// The names of a `use` line, without their arguments; commas inside parentheses part nothing.
pub(crate) fn names(text: &str) -> Vec<String> {
    let mut names = vec![String::new()];
    let mut depth = 0usize;
    for c in text.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            c if depth == 0 && (c == ',' || c.is_whitespace()) => names.push(String::new()),
            c if depth == 0 => {
                if let Some(name) = names.last_mut() {
                    name.push(c);
                }
            }
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parted_outside_of_parentheses() {
        assert_eq!(names("Personal, Submit"), ["Personal", "Submit"]);
        assert_eq!(names(" recommended(a, b), X(1) "), ["recommended", "X"]);
        assert!(is_known("role:personal") && !is_known("ROLE:NoSuch") && !is_known("ROLE"));
    }
}
