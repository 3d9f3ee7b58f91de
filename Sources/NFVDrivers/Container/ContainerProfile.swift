import LinuxSystem
import NFVModel

/// The AppArmor profile of a store's containers. Their namespaces, capabilities and system call
/// filter stay what bounds them; the profile holds where one of these fails.
struct ContainerProfile: Sendable, Hashable {
  let name: String
  /// In apparmor.d(5)'s language. Self-contained: what it means does not hang on the host's files.
  let text: String

  /// The content is a part of the name, so that containers of an earlier version keep theirs.
  init(store: StoreID) {
    let version = HostName.derived(from: Self.rules(name: ""))
    name = Self.prefix(store) + version
    text = """
      profile \(name) flags=(attach_disconnected,mediate_deleted) {
      \(Self.rules(name: name))
      }

      """
  }

  private static func prefix(_ store: StoreID) -> String { "martlet-\(store)-" }

  private static func rules(name: String) -> String {
    """
      network,
      capability,
      file,
      signal (receive),
      signal (send) peer=\(name),
      ptrace (trace, tracedby, read, readby) peer=\(name),
      deny mount,
      deny remount,
      deny umount,
      deny pivot_root,
      deny /proc/{kallsyms,kcore,kmsg,kpage*,modules,sysrq-trigger,vmallocinfo} rwklx,
      deny /proc/sys/** wklx,
      deny /sys/** wklx,
      deny /sys/{firmware,module}/** rwklx,
      deny /sys/kernel/{debug,security,tracing}/** rwklx,
    """
  }

  /// Gives it to the kernel where the kernel takes one and has it not.
  func load() -> SecurityProfile {
    guard AppArmor.isEnabled else {
      return .none(
        AppArmor.isSELinuxEnforcing()
          ? "this host has SELinux, for which containers get no label"
          : "this host has neither AppArmor nor SELinux")
    }
    do throws(SystemError) {
      guard try !AppArmor.profiles().contains(name) else { return .appArmor(name) }
      let result = try AppArmor.load(text)
      guard result.status != 0 else { return .appArmor(name) }
      let said = String(decoding: result.output.prefix(300), as: UTF8.self)
      return .none("apparmor_parser took no profile: \(said)")
    } catch  where error.call == "posix_spawn" {
      return .none("this host has AppArmor and no apparmor_parser: apt-get install apparmor")
    } catch {
      return .none("this host has AppArmor, of which nothing can be asked: \(error)")
    }
  }

  /// Takes all profiles of a store from the kernel.
  static func removeAll(of store: StoreID) throws(SystemError) {
    guard AppArmor.isEnabled else { return }
    for name in try AppArmor.profiles() where name.hasPrefix(prefix(store)) {
      try AppArmor.remove(name)
    }
  }
}
