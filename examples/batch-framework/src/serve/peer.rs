//! Who speaks through the socket.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use axum::{extract::connect_info::Connected, serve::IncomingStream};
use tokio::net::UnixListener;

/// Whoever opened a connection, as the kernel says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Their name, or their number where it is not in `/etc/passwd`.
    pub user: String,
    /// Root, or who serves: may act for others.
    pub is_operator: bool,
}

/// Whose connection it is; none when the kernel does not say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Uid(pub(super) Option<u32>);

impl Connected<IncomingStream<'_, UnixListener>> for Uid {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Uid(stream.io().peer_cred().ok().map(|peer| peer.uid()))
    }
}

impl Peer {
    /// `owner` is the number of who serves.
    pub(super) fn of(uid: u32, owner: u32, passwd: &str) -> Peer {
        let name = passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
        });
        Peer { user: name.unwrap_or_else(|| uid.to_string()), is_operator: uid == 0 || uid == owner }
    }

    /// Who a connection is from, looked up now: users come and go.
    pub(super) fn look_up(uid: u32, owner: u32) -> Peer {
        // A machine without this file has numbers only, and they are as good.
        Peer::of(uid, owner, &fs::read_to_string("/etc/passwd").unwrap_or_default())
    }
}

/// Who owns a file that this process has just made: who this process is.
pub(super) fn owner(file: &Path) -> std::io::Result<u32> {
    fs::metadata(file).map(|metadata| metadata.uid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_numbers() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\nbroken\n";
        let peer = |uid, owner| Peer::of(uid, owner, passwd);
        assert_eq!(peer(1000, 0), Peer { user: "ann".into(), is_operator: false });
        assert_eq!(peer(1000, 1000), Peer { user: "ann".into(), is_operator: true });
        assert_eq!(peer(0, 1000), Peer { user: "root".into(), is_operator: true });
        assert_eq!(peer(7, 0).user, "7");
    }
}
