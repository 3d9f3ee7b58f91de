import Glibc
import LinuxSystem
import NFVDrivers
import NFVModel
import SystemPackage
import Testing

@Suite(
  .serialized, .enabled(if: ContainerFacility.isRoot, "needs root"),
  .enabled(if: ContainerFacility.hasCrun, "needs crun"))
struct ContainerDriverTests {
  @Test("A container runs to its end; its status and output are told, and nothing is left")
  func runsToItsEnd() async throws {
    try await withContainers { fixture in
      let (status, output) = try await fixture.output("echo out; echo err >&2; exit 3")
      #expect(status == .exited(code: 3))
      #expect(output == "out\nerr\n")
      #expect(try await fixture.leftovers() == [])
    }
  }
}
