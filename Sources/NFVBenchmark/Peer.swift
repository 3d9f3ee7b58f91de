/// Another way to start a container, measured beside Martlet where it is installed.
public enum Peer: String, CaseIterable, Sendable {
  case docker, podman, lxc

  /// The program that starts a container.
  public var program: String { self == .lxc ? "lxc-start" : rawValue }

  /// Whether it needs no engine, and so runs in namespaces of the benchmark's own: what it makes of
  /// interfaces, mounts and processes goes with them.
  public var isPrivate: Bool { self != .docker }

  /// The network that its containers are on.
  public var subnet: [UInt8] {
    switch self {
    case .docker: [10, 97, 0, 0]
    case .podman: [10, 98, 0, 0]
    case .lxc: [10, 99, 0, 0]
    }
  }
}

/// What is run to start one package's function under a peer: pure, so that it is tested without any.
public struct PeerCommands: Sendable, Hashable {
  public var peer: Peer
  /// What everything that it makes is called by.
  public var label: String
  /// A folder of the benchmark's own: its images, containers and state.
  public var folder: String
  /// The function's image as an OCI archive, its one layer, and that layer unpacked.
  public var archive, layer, root: String
  public var entrypoint: [String]
  /// The OCI runtime of podman.
  public var runtime: String

  public init(
    peer: Peer, label: String, folder: String, archive: String, layer: String, root: String,
    entrypoint: [String], runtime: String
  ) {
    self.peer = peer
    self.label = label
    self.folder = folder
    self.archive = archive
    self.layer = layer
    self.root = root
    self.entrypoint = entrypoint
    self.runtime = runtime
  }

  private var network: String {
    peer.subnet.map(String.init).joined(separator: ".") + "/24"
  }

  /// The bridge that its containers are on, where its name can be chosen.
  public var bridge: String { "mb-\(peer.rawValue)" }

  /// Once, before the first start.
  public var preparation: [[String]] {
    switch peer {
    case .docker:
      let quoted = entrypoint.map { "\"\($0)\"" }.joined(separator: ",")
      return [
        ["docker", "import", "--change", "ENTRYPOINT [\(quoted)]", layer, label],
        [
          "docker", "network", "create", "--subnet", network, "--opt",
          "com.docker.network.bridge.name=\(bridge)", label,
        ],
      ]
    case .podman:
      return [
        podman + ["load", "--quiet", "--input", archive],
        podman + ["network", "create", "--subnet", network, label],
      ]
    case .lxc: return []
    }
  }

  /// Says, as JSON, what the network made by `preparation` is; nil where that is known.
  public var inspection: [String]? {
    peer == .podman ? podman + ["network", "inspect", label] : nil
  }

  /// Starts a container in the background; it ends when the peer says that it is started.
  /// - Parameter image: what `preparation` called it.
  public func start(_ name: String, address: String, image: String) -> [String] {
    switch peer {
    case .docker:
      return [
        "docker", "run", "--detach", "--rm", "--name", name, "--network", label, "--ip", address,
        image,
      ]
    case .podman:
      // The limits are given, as podman's own are above what a restricted root may set.
      return podman + [
        "run", "--detach", "--rm", "--name", name, "--network", label, "--ip", address,
        "--cgroup-parent", "/\(label)", "--ulimit", "nofile=1024:1024", "--ulimit",
        "nproc=1024:1024", image,
      ]
    case .lxc:
      return [
        "lxc-start", "--lxcpath", folder, "--name", name, "--rcfile", "\(folder)/configuration",
        "--define", "lxc.net.0.ipv4.address=\(address)/24", "--daemon", "--",
      ] + entrypoint
    }
  }

  public func removal(_ name: String) -> [String] {
    switch peer {
    case .docker: ["docker", "rm", "--force", name]
    case .podman: podman + ["rm", "--force", "--time", "0", name]
    case .lxc: ["lxc-stop", "--lxcpath", folder, "--name", name, "--kill"]
    }
  }

  /// Once, after the last; what lies in the benchmark's own folder and namespaces goes with them.
  public var ending: [[String]] {
    peer == .docker
      ? [["docker", "network", "rm", label], ["docker", "rmi", "--force", label]] : []
  }

  /// LXC's configuration of every container.
  public var configuration: String {
    """
    lxc.rootfs.path = dir:\(root)
    lxc.net.0.type = veth
    lxc.net.0.link = \(bridge)
    lxc.net.0.flags = up
    lxc.apparmor.profile = unconfined
    lxc.tty.max = 0
    lxc.mount.auto = proc:mixed sys:ro
    lxc.cgroup.dir.container = \(label)/function
    lxc.cgroup.dir.monitor = \(label)/monitor
    lxc.cgroup.dir.monitor.pivot = \(label)/pivot

    """
  }

  private var podman: [String] {
    [
      "podman", "--root", "\(folder)/root", "--runroot", "\(folder)/run", "--storage-driver",
      "overlay", "--cgroup-manager", "cgroupfs", "--network-config-dir", "\(folder)/networks",
      "--runtime", runtime,
    ]
  }
}

/// Namespaces of the benchmark's own for peers without an engine.
public enum PeerNamespaces {
  /// What a shell does in a new mount, network and process namespace before a peer runs there: mounts
  /// of its own are seen by nobody else, /sys shows its own bridges, and what peers keep in the
  /// host's folders is kept in memory.
  public static let setup = """
    set -e
    mount --make-rprivate /
    mount -t proc proc /proc
    groups=$(mktemp -d)
    mount --rbind /sys/fs/cgroup "$groups"
    mount -t sysfs sysfs /sys
    mount --move "$groups" /sys/fs/cgroup
    rmdir "$groups"
    for folder in /run /dev/shm /var/lib /var/cache; do
      mount -t tmpfs -o mode=755 tmpfs "$folder"
    done
    """
}
