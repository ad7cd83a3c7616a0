//! Placement against a server that is [`fake::Fake`]: what it asks for, in which order, and what is left behind.

mod failing;
mod fake;
mod placing;
mod swapping;
mod sweeping;

use credential::SecretBytes;

use self::fake::{Fake, Thing};
use super::*;

const OWN: u32 = 50001;
const PATH: &str = "/tmp/vt_u50001";

fn file(bytes: &[u8], mode: u32) -> File {
    File {
        path: PATH.into(),
        content: SecretBytes::new(bytes.to_vec()),
        mode,
    }
}

fn old(bytes: &[u8], mode: u32, uid: u32) -> Thing {
    Thing::File {
        bytes: bytes.to_vec(),
        mode,
        uid,
    }
}

async fn place(fake: &mut Fake, file: &File, mode: Mode) -> Result<Landed, FileError> {
    let landed = place_file(fake, file, mode, ".mtk-0").await;
    landed.map_err(|failed| match failed {
        Failed::File(error) => error,
        other => panic!("{other:?}"),
    })
}
