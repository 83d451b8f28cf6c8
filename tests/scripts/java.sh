cat > M.java <<'J'
import java.util.*; import java.util.concurrent.*; import java.net.*; import java.io.*; import java.nio.file.*;
public class M { public static void main(String[] a) throws Exception {
 ExecutorService e = Executors.newFixedThreadPool(8); List<Future<Long>> l = new ArrayList<>();
 for (int i = 0; i < 100; i++) { final int n = i; l.add(e.submit(() -> { long s = 0; for (int k = 0; k < 10000; k++) s += k ^ n; return s; })); }
 long t = 0; for (Future<Long> f : l) t += f.get(); e.shutdown(); System.out.println(t);
 ServerSocket s = new ServerSocket(0, 50, InetAddress.getByName("127.0.0.1"));
 Thread th = new Thread(() -> { try { for (int i = 0; i < 10; i++) { Socket c = s.accept(); c.getOutputStream().write(("hello " + i + "\n").getBytes()); c.close(); } } catch (IOException x) { System.out.println(x); } }); th.start();
 for (int i = 0; i < 10; i++) { Socket c = new Socket("127.0.0.1", s.getLocalPort()); System.out.println(new BufferedReader(new InputStreamReader(c.getInputStream())).readLine()); c.close(); }
 th.join();
 Process p = new ProcessBuilder("sh", "-c", "echo child; exit 3").redirectErrorStream(true).start();
 System.out.println(new String(p.getInputStream().readAllBytes()) + p.waitFor());
 Path f = Files.createTempFile("x", "y"); Files.write(f, new byte[100000]); System.out.println(Files.size(f)); Files.delete(f);
 byte[][] keep = new byte[50][]; for (int i = 0; i < 2000; i++) keep[i % 50] = new byte[100000]; System.gc();
 System.out.println(keep[0].length); System.exit(5); } }
J
javac M.java && java -Xmx200m M; echo $?; java -XX:+UseG1GC -Xmx200m M | md5sum; jar cf m.jar M.class; jar tf m.jar | sort; rm M*.class M.java m.jar
