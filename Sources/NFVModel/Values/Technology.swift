/// How a VDU is virtualised (draft-natarajan-nfvrg-containers-for-nfv-03, 2).
public enum Technology: String, Hashable, Sendable, Codable, CaseIterable {
  case container, tinyx, unikernel, standardvm
}
