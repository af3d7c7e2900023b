//! Noticing that a peer has closed while nothing is read from it.
//!
//! Invariant: unread data neither ends the wait nor makes it spin. Deliberately absent: reading.

use std::future::Future;
use std::os::fd::AsFd;

use tokio::io::Interest;
use tokio::net::TcpStream;

/// A wait for the peer's FIN or RST on `stream`, which needs no reading and holds no borrow of it.
///
/// Must be called within a runtime. `None`: the system has no file descriptor or no watch to spare; reading notices it later.
pub fn watch_peer_gone(stream: &TcpStream) -> Option<impl Future<Output = ()> + Send + 'static> {
    // A descriptor of its own has a registration of its own with epoll: the stream's readiness is not touched.
    let descriptor = stream.as_fd().try_clone_to_owned().ok()?;
    let watched = TcpStream::from_std(descriptor.into()).ok()?;
    // Priority is what read-closed satisfies and data does not. Urgent data, the other thing that would, is not registered for.
    Some(async move { drop(watched.ready(Interest::PRIORITY).await) })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::timeout;

    use super::watch_peer_gone;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (near.unwrap(), far.unwrap().0)
    }

    #[tokio::test]
    async fn unread_data_alone_does_not_end_the_wait() {
        let (near, mut far) = pair().await;
        let mut gone = std::pin::pin!(watch_peer_gone(&near).unwrap());
        far.write_all(b"unread").await.unwrap();
        assert!(timeout(Duration::from_millis(100), gone.as_mut()).await.is_err());
        far.write_all(b"more").await.unwrap();
        assert!(timeout(Duration::from_millis(100), gone.as_mut()).await.is_err());
    }

    #[tokio::test]
    async fn a_fin_behind_unread_data_ends_it() {
        let (mut near, mut far) = pair().await;
        let gone = watch_peer_gone(&near).unwrap();
        far.write_all(b"unread").await.unwrap();
        far.shutdown().await.unwrap();
        timeout(Duration::from_secs(5), gone).await.expect("the FIN is noticed");
        let mut read = Vec::new();
        near.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"unread", "and the data is still there");
    }

    #[tokio::test]
    async fn a_reset_ends_it() {
        let (near, far) = pair().await;
        let gone = watch_peer_gone(&near).unwrap();
        socket2::SockRef::from(&far).set_linger(Some(Duration::ZERO)).unwrap();
        drop(far);
        timeout(Duration::from_secs(5), gone).await.expect("the RST is noticed");
    }

    #[tokio::test]
    async fn a_fin_that_came_before_the_watch_counts() {
        let (near, far) = pair().await;
        drop(far);
        near.readable().await.unwrap();
        timeout(Duration::from_secs(5), watch_peer_gone(&near).unwrap()).await.expect("an old FIN is noticed");
    }
}
