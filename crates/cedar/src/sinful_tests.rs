use super::*;

const CREDD: &str = "<127.0.1.101:9618?addrs=127.0.1.101-9618&alias=ap1.mtk.test&noUDP&sock=credd>";

#[test]
fn a_real_one_round_trips() {
    let sinful: Sinful = CREDD.parse().unwrap();
    assert_eq!(
        (sinful.alias(), sinful.sock()),
        (Some("ap1.mtk.test"), Some("credd"))
    );
    assert_eq!(sinful.to_string(), CREDD);
    let at: SocketAddr = "127.0.1.101:9618".parse().unwrap();
    assert_eq!(sinful.endpoints().unwrap(), [Endpoint::Address(at)]);
}

#[test]
fn the_most_desirable_address_comes_first() {
    let text = "<10.0.0.1:1?addrs=[fe80--1]-1+127.0.0.1-1+10.0.0.1-1+192.0.2.7-9618+[2001-db8--7]-9618>";
    let got: Vec<String> = text
        .parse::<Sinful>()
        .unwrap()
        .endpoints()
        .unwrap()
        .into_iter()
        .map(|e| match e {
            Endpoint::Address(a) => a.to_string(),
            Endpoint::Name(..) => unreachable!(),
        })
        .collect();
    assert_eq!(
        got,
        [
            "192.0.2.7:9618",
            "[2001:db8::7]:9618",
            "10.0.0.1:1",
            "127.0.0.1:1",
            "[fe80::1]:1"
        ]
    );
}

#[test]
fn what_is_written_by_hand() {
    let sinful = Sinful::from_entry("condor.mtk.test", 9618).unwrap();
    assert_eq!(sinful.alias(), Some("condor.mtk.test"));
    assert_eq!(
        sinful.endpoints().unwrap(),
        [Endpoint::Name("condor.mtk.test".into(), 9618)]
    );
    let sinful = Sinful::from_entry("h:99?sock=x", 9618).unwrap();
    assert_eq!((sinful.sock(), sinful.port), (Some("x"), 99));
    let sinful = Sinful::from_entry("[::1]:99", 9618).unwrap();
    assert_eq!(
        sinful.endpoints().unwrap(),
        [Endpoint::Address("[::1]:99".parse().unwrap())]
    );
    assert_eq!(sinful.alias(), None);
    assert_eq!(Sinful::from_entry(CREDD, 9618).unwrap(), CREDD.parse().unwrap());
    for text in ["", ":1", "a b", "h:x", "h:99999", "[::1", "h/x"] {
        assert!(Sinful::from_entry(text, 9618).is_err(), "{text:?}");
    }
}

#[test]
fn parameters() {
    let sinful: Sinful = "<h:1?alias=a&alias=b%2Ec;noUDP&x=%3c>".parse().unwrap();
    assert_eq!(sinful.alias(), Some("b.c"));
    assert_eq!(sinful.to_string(), "<h:1?alias=a&alias=b.c&noUDP&x=%3c>");
    assert_eq!("<[::1]:7>".parse::<Sinful>().unwrap().to_string(), "<[::1]:7>");
}

#[test]
fn behind_a_broker_is_an_error_of_its_own() {
    let sinful: Sinful = "<h:1?CCBID=192.0.2.1:9618#5&sock=x>".parse().unwrap();
    assert!(matches!(sinful.endpoints(), Err(BadAddress::Broker { .. })));
}

#[test]
fn nonsense_and_every_prefix_is_an_error() {
    for n in 0..CREDD.len() {
        assert!(CREDD[..n].parse::<Sinful>().is_err());
    }
    for text in [
        "<>",
        "<h>",
        "<h:0>",
        "<h:1?a=%>",
        "<h:1?a=%zz>",
        "<h:1?a=%ff>",
        "<h\n:1>",
        "<[::1:1>",
    ] {
        assert!(text.parse::<Sinful>().is_err(), "{text}");
    }
    assert!(
        format!("<h:1?x={}>", "a".repeat(MAX_LENGTH))
            .parse::<Sinful>()
            .is_err()
    );
    assert!(
        "<h:1?addrs=1.2.3.4-0>"
            .parse::<Sinful>()
            .unwrap()
            .endpoints()
            .is_err()
    );
}
