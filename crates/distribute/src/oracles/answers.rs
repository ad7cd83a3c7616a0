//! A server that answers SFTP requests with what a fuzzer thinks up.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use credential::SecretBytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::{
    File, Gate, Limits, Login, Mode, Node, Options, Placed,
    ssh::{Job, sftp, work},
};

/// What is to be placed.
const PATH: &str = "/tmp/vt_u50001";
const CONTENT: &[u8] = b"hvs.fuzz\n";

/// The longest request taken.
const MAX_REQUEST: usize = 1 << 20;

/// `SSH_FXP_*` of draft-ietf-secsh-filexfer-02, section 3.
const REMOVE: u8 = 13;
const DATA: u8 = 103;
const ANSWERS: [u8; 8] = [101, 102, DATA, 104, 105, 201, 2, 0xff];

/// What the server heard and said.
#[derive(Default)]
struct Heard {
    removed: Vec<String>,
    data: Vec<u8>,
}

/// SFTP answers: placing a file ends, whatever is answered; it says "placed" or "unchanged" only of bytes the server
/// has shown; and the server's names lead it to remove nothing but temporary files.
///
/// Each answer is a byte that says which it is (bits 0 to 2), whether it has the request's number (3 unset), lies about its
/// length (4), comes twice (5) or comes alone (6 unset; else the next one follows at once); then a length and so many bytes.
pub fn sftp(data: &[u8]) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
    else {
        return;
    };
    for mode in [Mode::Write, Mode::Verify, Mode::Remove] {
        let (outcome, heard) = runtime.block_on(session(data.to_vec(), mode));
        if outcome && !contains(&heard.data, CONTENT) {
            panic!("the file is said to be there in {mode:?}, and the server never showed it");
        }
        let ours = |path: &String| {
            let temporary = path
                .strip_prefix("/tmp/.mtk-")
                .is_some_and(|rest| rest.len() == 32 && rest.bytes().all(|b| b.is_ascii_hexdigit()));
            temporary || (mode == Mode::Remove && path == PATH)
        };
        if let Some(other) = heard.removed.iter().find(|path| !ours(path)) {
            panic!("the server had {other:?} removed in {mode:?}");
        }
        if mode == Mode::Verify && !heard.removed.is_empty() {
            panic!("looking removed {:?}", heard.removed);
        }
    }
}

/// Whether the file was said to be there with its content, and what the server heard.
async fn session(data: Vec<u8>, mode: Mode) -> (bool, Heard) {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let heard = Arc::new(Mutex::new(Heard::default()));
    let server = tokio::spawn(serve(theirs, data, Arc::clone(&heard)));
    let there = async {
        let patience = Duration::from_secs(20);
        let Ok(mut session) = sftp::Session::start(ours, patience).await else {
            return false;
        };
        let gate = Gate::default();
        let Ok(pass) = gate.enter("n", 22, "u", patience).await else {
            return false;
        };
        let job = Job {
            node: Node {
                host: "n".to_owned(),
                port: 22,
                user: "u".to_owned(),
                known_hosts: Vec::new(),
                login: Login::Russh {
                    identities: Vec::new(),
                },
                options: Options::default(),
            },
            files: Arc::new([File {
                path: PATH.to_owned(),
                content: SecretBytes::new(CONTENT.to_vec()),
                mode: 0o400,
            }]),
            mode,
            limits: Limits::default(),
            ends: Instant::now() + patience,
            at_node: Arc::clone(&pass.node),
            entry: Arc::clone(&pass.entry),
        };
        let results = work(&mut session, &job).await;
        results.iter().any(|result| {
            let placed = result.as_ref().map(|landed| landed.placed);
            matches!(placed, Ok(Placed::Written))
                || (matches!(placed, Ok(Placed::Unchanged)) && mode != Mode::Remove)
        })
    };
    let outcome = there.await;
    if let Err(error) = server.await {
        panic!("the server: {error}");
    }
    let heard = std::mem::take(&mut *lock(&heard));
    (outcome, heard)
}

async fn serve(mut stream: DuplexStream, data: Vec<u8>, heard: Arc<Mutex<Heard>>) {
    let mut rest = data.as_slice();
    let mut id = [0; 4];
    loop {
        tokio::select! {
            biased;
            request = request(&mut stream) => {
                let Some(request) = request else { return };
                id = request.get(1..5).and_then(|id| id.try_into().ok()).unwrap_or_default();
                if request.first() == Some(&REMOVE) {
                    let path = String::from_utf8_lossy(request.get(9..).unwrap_or_default()).into_owned();
                    lock(&heard).removed.push(path);
                }
            }
            // It waits for something else than it was told, so the next is said unasked.
            () = everybody_else() => {}
        }
        loop {
            let Some((control, answer)) = next(&mut rest, id) else {
                return;
            };
            if let Some(payload) = shown(&answer) {
                lock(&heard).data.extend_from_slice(payload);
            }
            let times = if control & 0x20 == 0 { 1 } else { 2 };
            for _ in 0..times {
                if stream.write_all(&answer).await.is_err() {
                    return;
                }
            }
            if control & 0x40 == 0 {
                break;
            }
        }
    }
}

async fn request(stream: &mut DuplexStream) -> Option<Vec<u8>> {
    let length = usize::try_from(stream.read_u32().await.ok()?).unwrap_or(usize::MAX);
    if length > MAX_REQUEST {
        panic!("a request of {length} bytes");
    }
    let mut request = vec![0; length];
    stream.read_exact(&mut request).await.ok()?;
    Some(request)
}

/// Until all tasks of this thread had their turn more than once.
async fn everybody_else() {
    for _ in 0..32 {
        tokio::task::yield_now().await;
    }
}

fn lock(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The next answer of the script as it goes on the wire.
fn next(rest: &mut &[u8], id: [u8; 4]) -> Option<(u8, Vec<u8>)> {
    let ([control, length], after) = rest.split_first_chunk::<2>()?;
    let (body, after) = after.split_at(after.len().min(usize::from(*length)));
    *rest = after;
    let kind = ANSWERS.get(usize::from(control & 7)).copied().unwrap_or_default();
    let mut packet = vec![kind];
    // a version has no number
    if control & 8 == 0 && kind != 2 {
        packet.extend_from_slice(&id);
    }
    packet.extend_from_slice(body);
    let length = u32::try_from(packet.len()).unwrap_or(u32::MAX);
    let said = match (control & 0x10 != 0, body.first()) {
        (true, Some(0xff)) => u32::MAX,
        (true, Some(by)) => length.wrapping_add(u32::from(*by)).wrapping_sub(128),
        _ => length,
    };
    Some((*control, [&said.to_be_bytes()[..], &packet].concat()))
}

/// What a data packet shows.
fn shown(answer: &[u8]) -> Option<&[u8]> {
    (answer.get(4) == Some(&DATA))
        .then(|| answer.get(9..).unwrap_or_default())
        .map(|string| string.get(4..).unwrap_or_default())
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
