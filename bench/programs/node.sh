# Node.js: an HTTP server from its start to the first response, and the load of many modules.
cd /tmp
for i in $(seq 400); do mkdir -p m/node_modules/p$i && echo "module.exports = $i" >m/node_modules/p$i/index.js; done
cat >m/server.js <<'C'
const start = process.hrtime.bigint() - BigInt(Math.round(performance.now() * 1e6));
const http = require('http');
const server = http.createServer((_, response) => response.end('hello'));
server.listen(0, '127.0.0.1', () => http.get({ port: server.address().port, agent: false }, response => {
  response.resume();
  response.on('end', () => {
    console.log(`Node.js, start to an HTTP response|${Number(process.hrtime.bigint() - start) / 1e6}|ms`);
    server.close();
  });
}));
C
cat >m/modules.js <<'C'
const start = performance.now();
for (let i = 1; i <= 400; i++) require(`p${i}`);
console.log(`Node.js, 400 modules|${performance.now() - start}|ms`);
C
node m/server.js >/dev/null
node m/server.js
node m/modules.js
