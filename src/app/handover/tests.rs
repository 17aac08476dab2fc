use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::*;

fn listening() -> (SocketAddr, OwnedFd) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    (listener.local_addr().unwrap(), listener.into())
}

#[tokio::test]
async fn sockets_arrive_as_they_are_and_keep_who_came_in_between() {
    let folder = tempfile::tempdir().unwrap();
    let ((first, one), (second, two)) = (listening(), listening());
    let mut offered = offer(folder.path(), vec![one, two]);
    let mut predecessor = Predecessor::find(folder.path()).await.unwrap().unwrap();
    let mut sockets = predecessor.sockets();
    let waiting = std::net::TcpStream::connect(first).unwrap();
    let (taken, ()) = tokio::join!(predecessor.take_over(), async {
        offered.accepted().await.hand_over().await;
    });
    taken.unwrap();
    offered.withdraw().await;

    assert!(sockets.take("127.0.0.2:0".parse().unwrap()).is_none());
    assert_eq!(sockets.take(second).unwrap().local_addr().unwrap(), second);
    assert!(sockets.take(second).is_none(), "once");
    let listener = sockets.take("127.0.0.1:0".parse().unwrap()).unwrap();
    assert_eq!(listener.accept().unwrap().1, waiting.local_addr().unwrap());
}

#[tokio::test]
async fn nobody_is_found_where_nobody_runs() {
    let folder = tempfile::tempdir().unwrap();
    assert!(Predecessor::find(folder.path()).await.unwrap().is_none());
    offer(folder.path(), Vec::new()).withdraw().await;
    assert!(socket_path(folder.path()).exists());
    assert!(Predecessor::find(folder.path()).await.unwrap().is_none(), "what it left behind is nobody");
}

#[tokio::test]
async fn who_stops_half_way_or_speaks_otherwise_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut offered = offer(folder.path(), vec![listening().1]);
    for hello in ["tollgate upgrade 9\n", "tollgate"] {
        let mut stream = UnixStream::connect(socket_path(folder.path())).await.unwrap();
        stream.write_all(hello.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // It may have been cut off with bytes unread.
        let read = stream.read_to_end(&mut answer).await;
        assert!(answer.is_empty(), "{read:?} {answer:?}");
    }
    drop(Predecessor::find(folder.path()).await.unwrap().unwrap());
    let next = Predecessor::find(folder.path()).await.unwrap().unwrap();
    let (taken, ()) = tokio::join!(next.take_over(), async {
        offered.accepted().await.hand_over().await;
    });
    taken.unwrap();
}

#[tokio::test]
async fn one_that_dies_before_it_is_done_leaves_the_folder_to_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let mut offered = offer(folder.path(), vec![listening().1]);
    let predecessor = Predecessor::find(folder.path()).await.unwrap().unwrap();
    let (taken, ()) = tokio::join!(predecessor.take_over(), async { drop(offered.accepted().await) });
    taken.unwrap();
}
