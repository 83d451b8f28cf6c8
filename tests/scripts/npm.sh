export HOME=$PWD npm_config_cache=$PWD/c npm_config_update_notifier=false; mkdir n; cd n; cat > package.json <<J
{"name":"n","version":"1.0.0","scripts":{"start":"node s.js","pretest":"echo before","test":"node -e 'process.exit(3)'"}}
J
cat > s.js <<J
const {Worker}=require("worker_threads"),cp=require("child_process"),fs=require("fs"),crypto=require("crypto"),zlib=require("zlib");
const w=new Worker("const {parentPort:p}=require('worker_threads');p.on('message',m=>{p.postMessage(m*2);p.close()})",{eval:true});w.postMessage(21);w.on("message",async m=>{console.log(m);
console.log(cp.execFileSync("sh",["-c","echo \$0 child","x"]).toString());cp.exec("exit 7",e=>console.log(e.code));
const c=cp.fork("f.js");c.on("message",m=>console.log(m));c.send({a:1});
await fs.promises.mkdir("d/e",{recursive:true});await fs.promises.writeFile("d/e/f","x".repeat(1e6));console.log((await fs.promises.stat("d/e/f")).size,await fs.promises.readdir("d",{recursive:true}));
const s=fs.createReadStream("d/e/f").pipe(zlib.createGzip()).pipe(crypto.createHash("sha256"));s.on("finish",()=>console.log(s.digest("hex").length));
crypto.generateKeyPair("rsa",{modulusLength:1024},(e,p)=>console.log(crypto.verify("sha256",Buffer.from("x"),p,crypto.sign("sha256",Buffer.from("x"),crypto.createPrivateKey(p.export({type:"pkcs1",format:"pem"})&&p.constructor&&undefined||p)))));
});
J
sed -i '/generateKeyPair/d' s.js; sed -i 's/^});$/const {publicKey:pu,privateKey:pr}=crypto.generateKeyPairSync("rsa",{modulusLength:1024});console.log(crypto.verify("sha256",Buffer.from("x"),pu,crypto.sign("sha256",Buffer.from("x"),pr)),crypto.scryptSync("a","b",16).toString("hex"));\n});/' s.js
echo 'process.on("message",m=>{process.send({got:m});process.disconnect()})' > f.js
npm start 2>&1 | sort; npm test 2>&1 | grep -v -E 'log$|npm (ERR|error)'; echo ${PIPESTATUS[0]}; npm pack --silent; npm ls 2>&1 | sed 's/@.*//'; cd ..; rm -r n c
