/// The identity of one run of one Vnfc. Every start increments the incarnation, so that a name on
/// the host is never used twice: namespaces die asynchronously.
public struct WorkloadID: Hashable, Comparable, Sendable, Codable, CustomStringConvertible {
  public var store: StoreID
  public var tenant: TenantID
  public var vnfc: VnfcID
  /// From 1.
  public var incarnation: Int

  public init(store: StoreID, tenant: TenantID, vnfc: VnfcID, incarnation: Int) {
    self.store = store
    self.tenant = tenant
    self.vnfc = vnfc
    self.incarnation = incarnation
  }

  /// `store/tenant/vnfc/incarnation`: what stands in an interface's alias, in the cgroup's path and
  /// in the run directory, from which the sweep reads the identity back.
  public var description: String { "\(store)/\(tenant)/\(vnfc)/\(incarnation)" }

  /// Reads `description` back; nil where the text is no identity of ours.
  public init?(_ text: String) {
    let parts = text.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
    guard parts.count == 4, parts.allSatisfy({ !$0.isEmpty }), let incarnation = Int(parts[3]),
      incarnation > 0
    else { return nil }
    self.init(
      store: StoreID(parts[0]), tenant: TenantID(parts[1]), vnfc: VnfcID(parts[2]),
      incarnation: incarnation)
  }

  /// The workload's name on the host: of its container, run directory and holding.
  public var name: String { HostName.derived(from: description) }

  /// The name of the host's end of a port's link. The workload's end is named by the port.
  public func interfaceName(of port: PortID) -> String {
    HostName.derived(from: "\(description)/\(port)")
  }

  public static func < (left: Self, right: Self) -> Bool {
    (left.store, left.tenant, left.vnfc, left.incarnation)
      < (right.store, right.tenant, right.vnfc, right.incarnation)
  }
}

/// Names on the host are derived from identities, never stored.
public enum HostName {
  /// `m` and twelve base-32 digits (RFC 4648, lower case) of a 64-bit hash: 13 of the 15 octets that
  /// IFNAMSIZ leaves. With 60 bits, a million names collide with a chance of one in two million;
  /// the alias holds the whole identity, so that a collision is seen.
  public static func derived(from identity: String) -> String {
    let digits = Array("abcdefghijklmnopqrstuvwxyz234567")
    var hash = hash(identity)
    var name = "m"
    for _ in 0..<12 {
      name.append(digits[Int(hash & 31)])
      hash >>= 5
    }
    return name
  }

  /// A stable 64-bit hash: FNV-1a, its bits then mixed by splitmix64's finaliser.
  public static func hash(_ text: String) -> UInt64 {
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    for byte in text.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
    hash = (hash ^ hash >> 30) &* 0xbf58_476d_1ce4_e5b9
    hash = (hash ^ hash >> 27) &* 0x94d0_49bb_1331_11eb
    return hash ^ hash >> 31
  }
}
