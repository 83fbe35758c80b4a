//! Small files, into memory.

use futures_util::StreamExt;

use crate::{Error, fault::Fault, patience::Patience, store::Store};

/// A file of at most `limit` bytes.
pub(crate) async fn small(store: &Store, name: &str, limit: u64, patience: &Patience) -> Result<Vec<u8>, Error> {
    let url = store.shown(name);
    let whole = patience.retry(&url, || once(store, name, limit, patience)).await?;
    whole.ok_or(Error::Overlong { url, limit })
}

/// One try. None: it is too long.
async fn once(store: &Store, name: &str, limit: u64, patience: &Patience) -> Result<Option<Vec<u8>>, Fault> {
    let mut answer = patience.wait(store.get(name, 0)).await??;
    if answer.total > limit {
        return Ok(None);
    }
    let mut whole = Vec::with_capacity(answer.total as usize);
    while let Some(piece) = patience.wait(answer.stream.next()).await? {
        whole.extend_from_slice(&piece?);
        if whole.len() as u64 > answer.total {
            return Ok(None);
        }
    }
    if (whole.len() as u64) < answer.total {
        return Err(Fault::Short { received: whole.len() as u64, declared: answer.total });
    }
    Ok(Some(whole))
}
