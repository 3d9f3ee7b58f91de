import Functions
import Hosting

// The package manager names a program's `main` so.
@c(loadbalancer_main)
public func main(
  _ count: Int32, _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>
) -> Int32 {
  Hosting.run(LoadBalancer(), count, arguments)
}
