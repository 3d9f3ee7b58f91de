internal import Glibc
internal import SystemPackage

/// The cgroup hierarchies of a host: controllers of version 1, the one tree of version 2, or both
/// beside each other ("hybrid").
///
/// Groups are made below the root that each mount shows, not below the caller's own group: that one
/// ends with the caller (or is killed whole by its service manager), and workloads outlive it.
public struct CgroupHierarchies: Sendable, Hashable {
  public enum Controller: String, Sendable, Hashable, CaseIterable {
    case cpu, memory, pids, devices
    /// Processor time; needed where there is no version 2, which counts it in every group.
    case cpuacct
    /// Stops processes; needed where there is no version 2, where every group can.
    case freezer
  }

  /// The root folder of each version 1 controller that has one; several may share a folder.
  public var controllers: [Controller: String]
  /// The root folder of version 2.
  public var unified: String?
  /// What version 2 controls here; on a hybrid host often nothing that is of use.
  public var unifiedControllers: Set<String>
  /// The other version 1 hierarchies' root folders, which some runtimes insist upon.
  public var others: [String]

  public init(
    controllers: [Controller: String], unified: String?, unifiedControllers: Set<String>,
    others: [String] = []
  ) {
    self.controllers = controllers
    self.unified = unified
    self.unifiedControllers = unifiedControllers
    self.others = others
  }

  /// - Parameters:
  ///   - mounts: those of the mount namespace.
  ///   - unifiedControllers: the content of version 2's `cgroup.controllers`, by its folder.
  public init(mounts: [MountEntry], unifiedControllers: (String) -> String) {
    var controllers: [Controller: String] = [:]
    var unified: String?
    var others: [String] = []
    for mount in mounts {
      switch mount.fileSystem {
      case "cgroup2":
        unified = unified ?? mount.mountPoint
      case "cgroup":
        let named = mount.superOptions.compactMap(Controller.init(rawValue:))
        for controller in named where controllers[controller] == nil {
          controllers[controller] = mount.mountPoint
        }
        if named.isEmpty { others.append(mount.mountPoint) }
      default: continue
      }
    }
    self.init(
      controllers: controllers, unified: unified,
      unifiedControllers: Set(
        unified.map {
          unifiedControllers($0).split(whereSeparator: \.isWhitespace).map(String.init)
        }
          ?? []), others: others)
  }

  /// Those of this host.
  public static func detect() throws(SystemError) -> CgroupHierarchies {
    CgroupHierarchies(mounts: try MountEntry.current()) { folder in
      (try? readFile(folder + "/cgroup.controllers", limit: 4096))
        .map { String(decoding: $0, as: UTF8.self) } ?? ""
    }
  }

  /// Version 2 alone.
  public var isUnifiedOnly: Bool { unified != nil && controllers.isEmpty }

  /// What limits a workload and cannot be had here: of `cpu`, `memory` and `pids`.
  public var missing: [Controller] {
    [.cpu, .memory, .pids].filter {
      controllers[$0] == nil && !unifiedControllers.contains($0.rawValue)
    }
  }

  /// The group of this path, such as `martlet/store/name`, in every hierarchy that we use.
  public func group(_ path: String) -> Cgroup { Cgroup(path: path, hierarchies: self) }

  /// Every folder that a group of ours has, each once: limits, then version 2 or the accounting and
  /// the freezer that stand in for it.
  func folders(of path: String) -> [String] {
    var roots: [String] = []
    var wanted: [Controller] = [.memory, .cpu, .pids, .devices]
    if unified == nil { wanted += [.cpuacct, .freezer] }
    for controller in wanted {
      if let root = controllers[controller], !roots.contains(root) { roots.append(root) }
    }
    if let unified { roots.append(unified) }
    return roots.map { "\($0)/\(path)" }
  }

  /// Every folder that a runtime which places its containers itself may make for a group.
  public func allFolders(of path: String) -> [String] {
    var roots = Array(Set(controllers.values)).sorted() + others
    if let unified { roots.append(unified) }
    return roots.map { "\($0)/\(path)" }
  }

  /// Removes the groups above a removed one, as long as they are empty.
  public func removeEmptyParents(of path: String) {
    var parts = path.split(separator: "/").dropLast()
    while !parts.isEmpty {
      let parent = parts.joined(separator: "/")
      for folder in allFolders(of: parent) { rmdir(folder) }
      parts.removeLast()
    }
  }
}

/// Holds the host's `favordynmods` option on: moving a process into a group then takes tenths of a
/// millisecond where it else waits 13 to 15 ms for an RCU grace period after an idle moment.
///
/// With any version 1 hierarchy present this is a hierarchy of its own that no folder shows, and it
/// ends with this object; on version 2 alone the option stays until the host's reboot.
public final class FavorDynamicModifications: Sendable {
  private let mount: FileDescriptor?

  /// - Throws: `EINVAL` on kernels before 6.0, `EPERM` without CAP_SYS_ADMIN.
  public init(_ hierarchies: CgroupHierarchies) throws(SystemError) {
    guard hierarchies.isUnifiedOnly, let unified = hierarchies.unified else {
      mount = try DetachedFileSystem.mount(
        "cgroup", options: [("none", nil), ("name", "martlet"), ("favordynmods", nil)])
      return
    }
    mount = nil
    // A remount replaces all of the hierarchy's options: those that it has are given again.
    let options = try MountEntry.current().first { $0.mountPoint == unified }?.superOptions ?? []
    if options.contains("favordynmods") { return }
    let kept = options.filter { $0 != "rw" && $0 != "ro" } + ["favordynmods"]
    try Mount.mount(
      source: "none", target: unified, type: "", flags: UInt(MS_REMOUNT),
      options: kept.joined(separator: ","))
  }

  deinit { try? mount?.close() }
}
