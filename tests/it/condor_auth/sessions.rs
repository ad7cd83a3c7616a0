//! Whose sessions are whose, and when they end.

use std::time::{Duration, Instant};

use credd_client::{Credd, Identity, Method};

use super::{ACCOUNT, USER, certificate, credd, id_token, options, query, with_id_token, with_ticket};
use crate::bed::{Reconfigured, Stopped, answers};

/// One handshake for each identity, whatever it is proven by, and none borrows another's session.
#[test]
fn sessions_belong_to_one_identity() {
    let all = options(&Method::DEFAULT);
    let identities = [
        with_ticket(ACCOUNT),
        with_ticket("novapro"),
        with_id_token(&id_token(USER, &[])),
        Identity::new(ACCOUNT).with_certificate(certificate(ACCOUNT)),
        Identity::new("novapro").with_certificate(certificate("novapro")),
    ];
    let clients: Vec<Credd> = identities
        .into_iter()
        .map(|identity| Credd::new(credd("ap1"), identity, all.clone()))
        .collect();
    for _ in 0..3 {
        for (client, user) in clients
            .iter()
            .zip([ACCOUNT, "novapro", ACCOUNT, ACCOUNT, "novapro"])
        {
            query(client, user).unwrap();
            assert_eq!(client.mapped_user().unwrap(), format!("{user}@mtk.test"));
        }
    }
    for client in &clients {
        assert_eq!((client.handshakes(), client.resumptions()), (1, 2));
    }
}

#[test]
fn a_credd_that_forgot_the_session() {
    let client = Credd::new(credd("ap2"), with_ticket(ACCOUNT), options(&Method::DEFAULT));
    query(&client, ACCOUNT).unwrap();
    drop(Stopped::credd("ap2"));
    query(&client, ACCOUNT).unwrap();
    assert_eq!((client.handshakes(), client.resumptions()), (2, 0));
    query(&client, ACCOUNT).unwrap();
    assert_eq!((client.handshakes(), client.resumptions()), (2, 1));
}

/// The time is the server's to give; it keeps the session 20 s longer, which nobody is to count on.
#[test]
fn a_session_ends_with_its_time() {
    let _brief = Reconfigured::daemon("ap2", "condor_credd", "CREDD.SEC_DEFAULT_SESSION_DURATION = 2");
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let client = Credd::new(credd("ap2"), with_ticket(ACCOUNT), options(&Method::DEFAULT));
        query(&client, ACCOUNT).unwrap();
        query(&client, ACCOUNT).unwrap();
        assert_eq!((client.handshakes(), client.resumptions()), (1, 1));
        std::thread::sleep(Duration::from_millis(2100));
        query(&client, ACCOUNT).unwrap();
        match (client.handshakes(), client.resumptions()) {
            (2, 1) => return,
            // it has not read its configuration yet
            other => assert!(Instant::now() < until, "{other:?}"),
        }
        answers("ap2");
    }
}
