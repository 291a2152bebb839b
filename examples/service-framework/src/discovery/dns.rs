//! Discovery by DNS, over UDP and TCP.
//!
//! - `APP.service.apportion`, A and AAAA: the addresses of the replicas that take requests.
//! - `_APP._tcp.service.apportion`, SRV: their ports and weights as well, with the address of each among the additional records.
//!
//! [`answer`] is pure: bytes in, bytes out. Around it is a socket of each kind. This is an authority for one zone and asks nobody else; a
//! resolver is told to forward that zone here.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use simple_dns::{
    CLASS, Name, OPCODE, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, ResourceRecord, TYPE,
    rdata::{A, AAAA, OPT, RData, SOA, SRV},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::Semaphore,
    time::timeout,
};

use super::{Directory, ready};
use crate::balancer::Replica;

/// The zone in which apps are found.
pub const ZONE: &str = "service.apportion";

/// How long an answer may be kept, in seconds: replicas come and go.
const TTL_SECONDS: u32 = 1;

/// What fits into an answer over UDP to who says nothing of its size (RFC 1035).
const UDP_BYTES: usize = 512;

/// What is sent over UDP at most, whatever is asked for: larger ones are cut into pieces on their way, and lost.
const UDP_BYTES_MAX: usize = 1232;

/// What fits into an answer over TCP.
const TCP_BYTES: usize = u16::MAX as usize;

/// Connections over TCP at a time, and how long one may say nothing.
const CONNECTIONS_MAX: usize = 64;
const SILENCE: Duration = Duration::from_secs(5);

/// How long a socket rests that failed, as when the process has too many files open.
const PAUSE: Duration = Duration::from_millis(50);

/// Sockets that answer on one address.
#[derive(Debug)]
pub struct Server {
    udp: UdpSocket,
    tcp: TcpListener,
    directory: Directory,
}

impl Server {
    /// Opens both sockets; of port 0 both get the same free one.
    pub async fn bind(address: SocketAddr, directory: Directory) -> io::Result<Self> {
        let tcp = TcpListener::bind(address).await?;
        let udp = UdpSocket::bind(tcp.local_addr()?).await?;
        Ok(Self { udp, tcp, directory })
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Answers without end; to end it, drop it.
    pub async fn run(self) {
        let Self { udp, tcp, directory } = self;
        tokio::join!(serve_udp(udp, &directory), serve_tcp(tcp, &directory));
    }
}

async fn serve_udp(socket: UdpSocket, directory: &Directory) {
    let mut bytes = vec![0; TCP_BYTES];
    loop {
        match socket.recv_from(&mut bytes).await {
            Ok((length, from)) => {
                if let Some(answer) = answer(directory, &bytes[..length], Some(UDP_BYTES)) {
                    // Who does not get it asks again.
                    let _ = socket.send_to(&answer, from).await;
                }
            }
            // As when an earlier answer reached nobody.
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn serve_tcp(listener: TcpListener, directory: &Directory) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let directory = directory.clone();
                tokio::spawn(async move {
                    // How a client's connection failed is the client's affair.
                    let _ = talk(stream, &directory).await;
                    drop(place);
                });
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// One question after another, each behind its length.
async fn talk(mut stream: TcpStream, directory: &Directory) -> io::Result<()> {
    loop {
        let mut length = [0; 2];
        timeout(SILENCE, stream.read_exact(&mut length)).await??;
        let mut question = vec![0; u16::from_be_bytes(length).into()];
        timeout(SILENCE, stream.read_exact(&mut question)).await??;
        let Some(answer) = answer(directory, &question, None) else { return Ok(()) };
        let Ok(length) = u16::try_from(answer.len()) else { return Ok(()) };
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.extend(answer);
        timeout(SILENCE, stream.write_all(&bytes)).await??;
    }
}

/// The answer to one message; none to what is no question. `udp_bytes` is the size for who says none, and absent over TCP.
pub fn answer(directory: &Directory, message: &[u8], udp_bytes: Option<usize>) -> Option<Vec<u8>> {
    // One that answers an answer can be made to talk to itself.
    if message.len() < 12 || message[2] & 0x80 != 0 {
        return None;
    }
    let Ok(asked) = Packet::parse(message) else {
        let id = u16::from_be_bytes([message[0], message[1]]);
        return refusal(id, RCODE::FormatError);
    };
    let limit = match udp_bytes {
        None => TCP_BYTES,
        Some(least) => {
            asked.opt().map_or(least, |opt| usize::from(opt.udp_packet_size).clamp(least, UDP_BYTES_MAX))
        }
    };
    let mut reply = Packet::new_reply(asked.id());
    if asked.has_flags(PacketFlag::RECURSION_DESIRED) {
        reply.set_flags(PacketFlag::RECURSION_DESIRED);
    }
    // Who speaks EDNS is to hear it (RFC 6891).
    *reply.opt_mut() =
        asked.opt().map(|_| OPT { opt_codes: Vec::new(), udp_packet_size: UDP_BYTES_MAX as u16, version: 0 });
    reply.questions.clone_from(&asked.questions);
    let code = match asked.questions.as_slice() {
        _ if asked.opcode() != OPCODE::StandardQuery => RCODE::NotImplemented,
        _ if asked.opt().is_some_and(|opt| opt.version > 0) => RCODE::BADVERS,
        [question] => fill(directory, question, &mut reply),
        _ => RCODE::FormatError,
    };
    *reply.rcode_mut() = code;
    if matches!(code, RCODE::NoError | RCODE::NameError) {
        reply.set_flags(PacketFlag::AUTHORITATIVE_ANSWER);
        if reply.answers.is_empty() {
            // It says for how long there is nothing (RFC 2308).
            reply.name_servers.extend(authority());
        }
    }
    let bytes = reply.build_bytes_vec_compressed().ok()?;
    if bytes.len() <= limit {
        return Some(bytes);
    }
    // Asked again over TCP, it is answered in full.
    reply.set_flags(PacketFlag::TRUNCATION);
    reply.answers.clear();
    reply.additional_records.clear();
    reply.build_bytes_vec_compressed().ok()
}

fn refusal(id: u16, code: RCODE) -> Option<Vec<u8>> {
    let mut reply = Packet::new_reply(id);
    *reply.rcode_mut() = code;
    reply.build_bytes_vec_compressed().ok()
}

/// What a name in the zone asks for.
enum Asked {
    /// The zone itself.
    Zone,
    /// All replicas of an app, if that is an app.
    App(String),
    /// The same, with their ports.
    Service(String),
    /// The one of an SRV record.
    Replica(IpAddr),
    Nothing,
}

/// Takes a name apart; none when it is not in the zone.
fn asked(name: &str) -> Option<Asked> {
    let name = name.to_ascii_lowercase();
    let within = name.strip_suffix(ZONE)?;
    if within.is_empty() {
        return Some(Asked::Zone);
    }
    let within = within.strip_suffix('.')?;
    if let Some(service) = within.strip_suffix("._tcp") {
        let service = service.strip_prefix('_').map(|service| Asked::Service(service.to_owned()));
        return Some(service.unwrap_or(Asked::Nothing));
    }
    if let Some(address) = within.strip_suffix(".ip") {
        let address = address.replace("x", ":").replace('-', ".");
        return Some(address.parse().map_or(Asked::Nothing, Asked::Replica));
    }
    Some(Asked::App(within.to_owned()))
}

/// What is said of a name that is no app: a name below which there are others is there, and only has nothing (RFC 8020).
fn without_app(directory: &Directory, name: &str) -> RCODE {
    let below = |app: &String| app.strip_suffix(name).is_some_and(|before| before.ends_with('.'));
    match ["_tcp", "ip"].contains(&name) || directory.apps().iter().any(below) {
        true => RCODE::NoError,
        false => RCODE::NameError,
    }
}

/// The record of the zone. Its numbers are for servers that copy zones, and nobody may copy this one.
fn authority() -> Option<ResourceRecord<'static>> {
    let zone = Name::new(ZONE).ok()?;
    let seconds = TTL_SECONDS as i32;
    let (mname, rname) = (zone.clone(), zone.clone());
    let soa = SOA {
        mname,
        rname,
        serial: 1,
        refresh: seconds,
        retry: seconds,
        expire: seconds,
        minimum: TTL_SECONDS,
    };
    Some(ResourceRecord::new(zone, CLASS::IN, TTL_SECONDS, RData::SOA(soa)))
}

/// The name of one replica's address, for SRV records, which can only point to names: `10-0-0-1.ip` or `fd00xx1.ip`.
fn target(address: IpAddr) -> String {
    format!("{}.ip.{ZONE}", address.to_string().replace('.', "-").replace(':', "x"))
}

fn fill(directory: &Directory, question: &Question<'_>, reply: &mut Packet<'_>) -> RCODE {
    if !matches!(question.qclass, QCLASS::CLASS(CLASS::IN) | QCLASS::ANY) {
        return RCODE::Refused;
    }
    let Some(asked) = asked(&question.qname.to_string()) else { return RCODE::Refused };
    let owner = question.qname.clone().into_owned();
    let wants = |kind: TYPE| question.qtype == QTYPE::ANY || question.qtype == QTYPE::TYPE(kind);
    match asked {
        Asked::Nothing => return RCODE::NameError,
        Asked::Zone => reply.answers.extend(authority().filter(|_| wants(TYPE::SOA))),
        Asked::App(app) => {
            let Some(replicas) = directory.replicas(&app) else { return without_app(directory, &app) };
            let mut addresses: Vec<IpAddr> = ready(&replicas).map(|replica| replica.address.ip()).collect();
            addresses.sort();
            addresses.dedup();
            reply
                .answers
                .extend(addresses.into_iter().filter_map(|address| host(owner.clone(), address, wants)));
        }
        Asked::Service(app) => {
            let Some(replicas) = directory.replicas(&app) else { return RCODE::NameError };
            if wants(TYPE::SRV) {
                for replica in ready(&replicas) {
                    service(owner.clone(), replica, reply);
                }
            }
        }
        Asked::Replica(address) => reply.answers.extend(host(owner, address, wants)),
    }
    RCODE::NoError
}

fn host(
    owner: Name<'static>,
    address: IpAddr,
    wants: impl Fn(TYPE) -> bool,
) -> Option<ResourceRecord<'static>> {
    let (kind, data) = match address {
        IpAddr::V4(address) => (TYPE::A, RData::A(A { address: address.into() })),
        IpAddr::V6(address) => (TYPE::AAAA, RData::AAAA(AAAA { address: address.into() })),
    };
    wants(kind).then(|| ResourceRecord::new(owner, CLASS::IN, TTL_SECONDS, data))
}

fn service(owner: Name<'static>, replica: &Replica, reply: &mut Packet<'_>) {
    let address = replica.address.ip();
    let target = target(address);
    let Ok(target) = Name::new(&target).map(Name::into_owned) else { return };
    let weight = u16::try_from(replica.weight).unwrap_or(u16::MAX);
    let data = SRV { priority: 0, weight, port: replica.address.port(), target: target.clone() };
    reply.answers.push(ResourceRecord::new(owner, CLASS::IN, TTL_SECONDS, RData::SRV(data)));
    let known = reply.additional_records.iter().any(|record| record.name == target);
    if let Some(record) = host(target, address, |_| true).filter(|_| !known) {
        reply.additional_records.push(record);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn directory(replicas: u8) -> Directory {
        let directory = Directory::default();
        let replica =
            |index: u8| Replica::new(format!("web-{index}"), SocketAddr::from(([10, 0, 0, index], 8000)));
        let mut all: Vec<_> = (1..=replicas).map(replica).collect();
        all.push(replica(200).draining());
        all.push(Replica::new("six", "[fd00::1]:8000".parse().unwrap()));
        directory.replace("Web", all);
        directory
    }

    fn ask(name: &str, kind: TYPE) -> Vec<u8> {
        let mut packet = Packet::new_query(7);
        let name = Name::new(name).unwrap();
        packet.questions.push(Question::new(name, QTYPE::TYPE(kind), QCLASS::CLASS(CLASS::IN), false));
        packet.build_bytes_vec().unwrap()
    }

    fn code(bytes: Option<Vec<u8>>) -> RCODE {
        Packet::parse(&bytes.unwrap()).unwrap().rcode()
    }

    #[test]
    fn an_app_has_the_addresses_of_who_takes_requests() {
        let bytes = answer(&directory(2), &ask("wEb.service.apportion", TYPE::A), Some(UDP_BYTES)).unwrap();
        let reply = Packet::parse(&bytes).unwrap();
        let addresses: Vec<_> = reply.answers.iter().map(|record| record.rdata.clone()).collect();
        let expected = [0x0a00_0001, 0x0a00_0002].map(|address| RData::A(A { address }));
        assert_eq!((reply.id(), addresses), (7, expected.to_vec()));
        let bytes =
            answer(&directory(2), &ask("web.service.apportion", TYPE::AAAA), Some(UDP_BYTES)).unwrap();
        assert_eq!(Packet::parse(&bytes).unwrap().answers.len(), 1);
    }

    #[test]
    fn a_service_has_ports_and_its_targets_are_names_that_are_answered() {
        let directory = directory(2);
        let bytes = answer(&directory, &ask("_web._tcp.service.apportion", TYPE::SRV), None).unwrap();
        let reply = Packet::parse(&bytes).unwrap();
        assert_eq!((reply.answers.len(), reply.additional_records.len()), (3, 3));
        for record in &reply.answers {
            let RData::SRV(srv) = &record.rdata else { panic!("{record:?}") };
            assert_eq!((srv.port, srv.weight), (8000, 1));
            let target = srv.target.to_string();
            let kind = if target.contains('x') { TYPE::AAAA } else { TYPE::A };
            let bytes = answer(&directory, &ask(&target, kind), None).unwrap();
            let host = Packet::parse(&bytes).unwrap().answers[0].rdata.clone().into_owned();
            assert!(
                reply
                    .additional_records
                    .iter()
                    .any(|record| record.name == srv.target && record.rdata == host)
            );
        }
    }

    #[test]
    fn too_much_for_udp_is_asked_for_over_tcp() {
        let directory = directory(100);
        let bytes = answer(&directory, &ask("web.service.apportion", TYPE::A), Some(UDP_BYTES)).unwrap();
        assert!(bytes.len() <= UDP_BYTES && Packet::parse(&bytes).unwrap().has_flags(PacketFlag::TRUNCATION));
        let bytes = answer(&directory, &ask("web.service.apportion", TYPE::A), None).unwrap();
        assert_eq!(Packet::parse(&bytes).unwrap().answers.len(), 100);
    }

    /// A name that is there without an address, and one that is not: resolvers keep for how long that is so, and for what is below.
    #[test]
    fn a_name_above_others_is_there_and_has_nothing() {
        let directory = directory(1);
        directory.replace("a.b", Vec::new());
        for (name, code) in [
            ("service.apportion", RCODE::NoError),
            ("SERVICE.apportion", RCODE::NoError),
            ("_tcp.service.apportion", RCODE::NoError),
            ("ip.service.apportion", RCODE::NoError),
            ("b.service.apportion", RCODE::NoError),
            ("a.b.service.apportion", RCODE::NoError),
            ("eb.service.apportion", RCODE::NameError),
            ("_db._tcp.service.apportion", RCODE::NameError),
            ("web._tcp.service.apportion", RCODE::NameError),
            ("x-y.ip.service.apportion", RCODE::NameError),
        ] {
            let bytes = answer(&directory, &ask(name, TYPE::A), None).unwrap();
            let reply = Packet::parse(&bytes).unwrap();
            assert_eq!((reply.rcode(), reply.answers.len()), (code, 0), "{name}");
            let [authority] = reply.name_servers.as_slice() else { panic!("{name}: {reply:?}") };
            assert_eq!(authority.name.to_string(), ZONE);
            assert!(matches!(&authority.rdata, RData::SOA(soa) if soa.minimum == TTL_SECONDS), "{name}");
        }
        let bytes = answer(&directory, &ask(ZONE, TYPE::SOA), None).unwrap();
        let reply = Packet::parse(&bytes).unwrap();
        assert_eq!((reply.answers.len(), reply.name_servers.len()), (1, 0));
        // What ends in the same letters is somebody else's.
        for name in ["fooservice.apportion", "apportion"] {
            let bytes = answer(&directory, &ask(name, TYPE::A), None).unwrap();
            let reply = Packet::parse(&bytes).unwrap();
            let authoritative = reply.has_flags(PacketFlag::AUTHORITATIVE_ANSWER);
            assert_eq!(
                (reply.rcode(), reply.name_servers.len(), authoritative),
                (RCODE::Refused, 0, false),
                "{name}"
            );
        }
    }

    #[test]
    fn who_speaks_edns_is_answered_so() {
        let directory = directory(1);
        let ask = |version| {
            let question = ask("web.service.apportion", TYPE::A);
            let mut packet = Packet::parse(&question).unwrap();
            *packet.opt_mut() = Some(OPT { opt_codes: Vec::new(), udp_packet_size: 4096, version });
            let bytes = answer(&directory, &packet.build_bytes_vec().unwrap(), Some(UDP_BYTES)).unwrap();
            let reply = Packet::parse(&bytes).unwrap();
            (reply.rcode(), reply.answers.len(), reply.opt().map(|opt| (opt.version, opt.udp_packet_size)))
        };
        assert_eq!(ask(0), (RCODE::NoError, 1, Some((0, UDP_BYTES_MAX as u16))));
        assert_eq!(ask(1), (RCODE::BADVERS, 0, Some((0, UDP_BYTES_MAX as u16))));
        let bytes =
            answer(&directory, &self::ask("web.service.apportion", TYPE::A), Some(UDP_BYTES)).unwrap();
        assert!(Packet::parse(&bytes).unwrap().opt().is_none());
    }

    #[test]
    fn what_is_not_there_is_said_to_be_not_there() {
        let directory = directory(1);
        let of = |name: &str| code(answer(&directory, &ask(name, TYPE::A), None));
        assert_eq!(of("db.service.apportion"), RCODE::NameError);
        assert_eq!(of("example.org"), RCODE::Refused);
        assert_eq!(of("web.service.apportion"), RCODE::NoError);
        let mut reply = ask("web.service.apportion", TYPE::A);
        reply[2] |= 0x80;
        assert_eq!(answer(&directory, &reply, None), None, "nobody answers an answer");
    }

    proptest! {
        #[test]
        fn no_message_is_too_odd(mut bytes in proptest::collection::vec(any::<u8>(), 0..80), place: usize, byte: u8) {
            let directory = directory(3);
            answer(&directory, &bytes, Some(UDP_BYTES));
            // And one that is nearly right.
            bytes = ask("_web._tcp.service.apportion", TYPE::SRV);
            let place = place % bytes.len();
            bytes[place] = byte;
            if let Some(answer) = answer(&directory, &bytes, Some(UDP_BYTES)) {
                prop_assert!(answer.len() <= UDP_BYTES_MAX);
            }
        }
    }

    #[tokio::test]
    async fn both_sockets_answer() {
        let server = Server::bind("127.0.0.1:0".parse().unwrap(), directory(2)).await.unwrap();
        let address = server.address().unwrap();
        let running = tokio::spawn(server.run());
        let question = ask("web.service.apportion", TYPE::A);
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        udp.send_to(&question, address).await.unwrap();
        let mut bytes = [0; UDP_BYTES];
        let length = timeout(SILENCE, udp.recv(&mut bytes)).await.unwrap().unwrap();
        assert_eq!(Packet::parse(&bytes[..length]).unwrap().answers.len(), 2);
        let mut tcp = TcpStream::connect(address).await.unwrap();
        tcp.write_all(&(question.len() as u16).to_be_bytes()).await.unwrap();
        tcp.write_all(&question).await.unwrap();
        let length = timeout(SILENCE, tcp.read_u16()).await.unwrap().unwrap();
        let mut over_tcp = vec![0; length.into()];
        tcp.read_exact(&mut over_tcp).await.unwrap();
        assert_eq!(Packet::parse(&over_tcp).unwrap().answers.len(), 2);
        running.abort();
    }
}
