import Testing

@testable import NFVBenchmark

@Suite struct PeerTests {
  private func commands(_ peer: Peer) -> PeerCommands {
    PeerCommands(
      peer: peer, label: "martlet-bench-7", folder: "/t/\(peer.rawValue)", archive: "/t/image.tar",
      layer: "/t/layer", root: "/t/root", entrypoint: ["/bin/sh", "-c", "iperf -s"],
      runtime: "runc")
  }

  @Test func docker() {
    let docker = commands(.docker)
    #expect(
      docker.preparation == [
        [
          "docker", "import", "--change", #"ENTRYPOINT ["/bin/sh","-c","iperf -s"]"#, "/t/layer",
          "martlet-bench-7",
        ],
        [
          "docker", "network", "create", "--subnet", "10.97.0.0/24", "--opt",
          "com.docker.network.bridge.name=mb-docker", "martlet-bench-7",
        ],
      ])
    #expect(
      docker.start("one", address: "10.97.0.9", image: "martlet-bench-7") == [
        "docker", "run", "--detach", "--rm", "--name", "one", "--network", "martlet-bench-7",
        "--ip", "10.97.0.9", "martlet-bench-7",
      ])
    #expect(docker.removal("one") == ["docker", "rm", "--force", "one"])
    // All that it made on the host goes again.
    #expect(
      docker.ending.map { Array($0.dropFirst()) } == [
        ["network", "rm", "martlet-bench-7"], ["rmi", "--force", "martlet-bench-7"],
      ])
  }

  @Test func podmanKeepsToItsOwnFolder() {
    let podman = commands(.podman)
    for command in podman.preparation + [podman.removal("one")] {
      #expect(command.prefix(3) == ["podman", "--root", "/t/podman/root"])
    }
    let start = podman.start("one", address: "10.98.0.9", image: "responder")
    #expect(start.contains("/martlet-bench-7") && start.contains("10.98.0.9"))
    #expect(start.last == "responder")
    #expect(podman.ending.isEmpty)
  }

  @Test func lxc() {
    let lxc = commands(.lxc)
    #expect(
      lxc.start("one", address: "10.99.0.9", image: "") == [
        "lxc-start", "--lxcpath", "/t/lxc", "--name", "one", "--rcfile", "/t/lxc/configuration",
        "--define", "lxc.net.0.ipv4.address=10.99.0.9/24", "--daemon", "--", "/bin/sh", "-c",
        "iperf -s",
      ])
    #expect(lxc.configuration.contains("lxc.rootfs.path = dir:/t/root\n"))
    #expect(lxc.configuration.contains("lxc.net.0.link = mb-lxc\n"))
    #expect(Peer.allCases.allSatisfy { "mb-\($0.rawValue)".utf8.count <= 15 })
  }
}

@Suite struct ScheduleTests {
  @Test func theSeedDecidesTheOrder() {
    func order(_ seed: UInt64) -> [String] {
      var schedule = Schedule(seed: seed)
      return schedule.order([("a", count: 20), ("b", count: 20), ("c", count: 3)])
    }
    #expect(order(1) == order(1))
    #expect(order(1) != order(2))
    #expect(order(5).count == 43 && order(5).filter { $0 == "c" }.count == 3)
    // In turn, not one after another.
    #expect(Set(order(3).prefix(20)).count > 1)
  }

  @Test func theTimeLeftFollowsThePace() {
    var progress = Pace(expected: 60)
    #expect(progress.secondsLeft(after: 0) == 60)
    progress.add(20)
    #expect(progress.secondsLeft(after: 40) == 80)
    #expect(progress.fraction == 1.0 / 3)
    progress.add(50)
    #expect(progress.secondsLeft(after: 90) == 0)
    #expect(progress.fraction == 1)
  }
}

@Suite struct RoundsTests {
  private func durations(_ rounds: Rounds, each: Duration...) -> Int {
    var rounds = rounds
    var made = 0
    while rounds.goesOn {
      rounds.add(each[min(made, each.count - 1)])
      made += 1
    }
    return made
  }

  @Test func noMoreThanTheTimeAllows() {
    #expect(durations(Rounds(3), each: .seconds(100)) == 3)
    #expect(durations(Rounds(10, within: .seconds(10)), each: .seconds(2)) == 5)
    // Another one as long as the longest would not do.
    #expect(durations(Rounds(10, within: .seconds(9)), each: .seconds(4), .seconds(1)) == 3)
    #expect(durations(Rounds(10, within: .seconds(1)), each: .seconds(4)) == 1)
    #expect(durations(Rounds(10, within: .seconds(-5)), each: .seconds(4)) == 1)
    #expect(durations(Rounds(0), each: .seconds(1)) == 0)
    var rounds = Rounds(5, within: .seconds(3))
    rounds.add(.seconds(2))
    #expect(!rounds.goesOn && rounds.left == 4)
  }
}
