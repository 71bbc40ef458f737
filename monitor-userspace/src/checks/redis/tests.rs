use super::super::wire::tests::{run, saying, without_end};
use super::*;

fn wanted(text: &str) -> Redis {
    let written: toml::Table = text.parse().expect("it is TOML");
    let read = Redis::deserialize(written).expect("it can be read");
    read.sensible().expect("it makes sense")
}

fn at(address: &Place, more: &str) -> Redis {
    let Place::Tcp(address) = address else {
        panic!("it is at a port")
    };
    wanted(&format!("address = \"{address}\"\n{more}"))
}

fn info(lines: &[&str]) -> Info {
    Info::read(lines.join("\r\n").as_bytes())
}

const MASTER: [&str; 9] = [
    "# Server",
    "run_id:abc",
    "uptime_in_seconds:100",
    "used_memory:900",
    "maxmemory:1000",
    "maxmemory_policy:allkeys-lru",
    "connected_clients:90",
    "maxclients:100",
    "role:master",
];

#[test]
fn each_limit_has_its_words() {
    for (with, more, word) in [
        ("", "role = \"replica\"", "it is a master, not a replica"),
        ("", "memory_max = \"80%\"", "more than `memory_max`, 80% of"),
        ("", "memory_max = \"500B\"", "more than `memory_max`, 500B"),
        (
            "",
            "clients_max = \"80%\"",
            "more than `clients_max`, 80% of 100",
        ),
        (
            "slave0:ip=1,port=2,state=online,offset=1,lag=20",
            "replication_lag = \"10s\"",
            "20 s behind",
        ),
        ("aof_last_write_status:err", "", "append-only file"),
        (
            "rdb_last_bgsave_status:err",
            "saved = true",
            "its last save to disk failed",
        ),
    ] {
        let mut lines = MASTER.to_vec();
        lines.push(with);
        let info = info(&lines);
        assert!(info.is_whole());
        let said = info.troubles(&wanted(&format!("address = \"127.0.0.1:1\"\n{more}")), None);
        assert!(said.len() == 1 && said.concat().contains(word), "{said:?}");
        let none = info.troubles(
            &wanted("address = \"127.0.0.1:1\"\nmemory_max = \"95%\"\nclients_max = \"95%\""),
            None,
        );
        assert_eq!(none.len(), usize::from(with.contains("aof")), "{none:?}");
    }
}

#[test]
fn a_full_memory_is_trouble_only_where_nothing_is_thrown_away() {
    let wanted = wanted("address = \"127.0.0.1:1\"");
    let full = [
        "used_memory:1000",
        "maxmemory:1000",
        "role:master",
        "maxmemory_policy:noeviction",
    ];
    assert!(
        info(&full)
            .troubles(&wanted, None)
            .concat()
            .contains("refuses writes")
    );
    let mut evicts = full;
    evicts[3] = "maxmemory_policy:allkeys-lru";
    assert!(info(&evicts).troubles(&wanted, None).is_empty());
    let mut buffers = full.to_vec();
    buffers.push("mem_not_counted_for_evict:1");
    assert!(info(&buffers).troubles(&wanted, None).is_empty());
}

#[test]
fn a_replica_without_its_master_is_behind() {
    let lines = [
        "used_memory:1",
        "role:slave",
        "master_host:m",
        "master_port:1",
        "master_link_status:down",
        "master_link_down_since_seconds:7",
    ];
    let wanted = wanted("address = \"127.0.0.1:1\"\nreplication_lag = \"10s\"");
    let said = info(&lines).troubles(&wanted, None).concat();
    assert!(
        said.contains("its link to its master m:1 is down for 7 s"),
        "{said}"
    );
}

#[test]
fn keys_thrown_away_are_counted_from_one_time_to_the_next() {
    let wanted = wanted("address = \"127.0.0.1:1\"\nevictions_per_second = 5");
    let at = |run: &str, uptime: u32, evicted: u32| {
        info(&[
            &format!("run_id:{run}"),
            &format!("uptime_in_seconds:{uptime}"),
            &format!("evicted_keys:{evicted}"),
        ])
    };
    assert!(wanted.compared(&at("a", 100, 5000)).is_empty());
    assert!(wanted.compared(&at("a", 110, 5050)).is_empty());
    let said = wanted.compared(&at("a", 120, 5200)).concat();
    assert!(said.contains("15.0 keys a second"), "{said}");
    assert!(
        wanted.compared(&at("b", 130, 9000)).is_empty(),
        "another run begins anew"
    );
}

#[test]
fn nonsense_is_refused() {
    for (more, why) in [
        ("username = \"x\"", "needs its password"),
        ("evictions_per_second = -1.0", "0 or more"),
        ("latency = \"0s\"", "more than 0"),
        ("password_file = \"/a\"\npassword_env = \"B\"", "not both"),
        ("password_file = \"a\"", "absolute"),
    ] {
        let written: toml::Table = format!("address = \"127.0.0.1:1\"\n{more}")
            .parse()
            .expect("it is TOML");
        let error = read::<Redis>(written).expect_err(more);
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn what_a_server_refuses_is_explained_and_rubbish_is_bounded() {
    for (said, word) in [
        ("-LOADING Redis is loading\r\n", "still reading its data"),
        ("-BUSY Redis is busy\r\n", "SCRIPT KILL"),
        ("-NOAUTH Authentication required.\r\n", "`password_file`"),
        (
            "-MISCONF Redis is configured\r\n",
            "cannot save to its disk",
        ),
        (
            "-ERR max number of clients reached\r\n",
            "connections are taken",
        ),
        ("+PANG\r\n", "not answered with PONG"),
        (
            "HTTP/1.1 400 Bad Request\r\n",
            "does not speak as Redis does",
        ),
        ("$99999999999\r\n", "at most 524288 are read"),
        ("$-1\r\n", "does not speak as Redis does"),
        ("+PONG\r\n$5\r\nhello\r\n", "says nothing of memory"),
        ("+PONG\r\n$50\r\nhello\r\n", "before its answer was whole"),
        ("\r\n", "does not speak as Redis does"),
        ("", "before its answer was whole"),
    ] {
        run(async {
            let place = saying(said.as_bytes().to_vec(), false).await;
            let failure = at(&place, "").asked().await.expect_err(said);
            let failure = failure.to_string();
            // One that closes at once may have done so before it was asked.
            assert!(
                failure.contains(word) || failure.contains("it broke"),
                "{said}: {failure}"
            );
        });
    }
    run(async {
        let place = without_end(vec![b'+'; 1 << 16]).await;
        let failure = at(&place, "").asked().await.expect_err("it has no end");
        assert!(
            failure.to_string().contains("longer than 16384 bytes"),
            "{failure}"
        );
    });
}

#[test]
fn a_password_is_sent_and_never_told() {
    run(async {
        let place = saying(b"-WRONGPASS invalid\r\n".to_vec(), true).await;
        let file = std::env::temp_dir().join(format!("redis-check-{}", std::process::id()));
        std::fs::write(&file, "secret-word\n").expect("it writes");
        let check = at(&place, &format!("password_file = \"{}\"", file.display()));
        let failure = check.asked().await.expect_err("it is wrong").to_string();
        std::fs::remove_file(&file).expect("it goes");
        assert!(failure.contains("password is wrong"), "{failure}");
        assert!(!failure.contains("secret-word") && !format!("{check:?}").contains("secret-word"));
        let gone = check
            .asked()
            .await
            .expect_err("the file is gone")
            .to_string();
        assert!(gone.contains("cannot read the password from"), "{gone}");
    });
}
